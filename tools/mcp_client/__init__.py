"""The one module that speaks MCP outwards: JSON-RPC over streamable HTTP, in both eras.

    facts = await mcp_client.discover(server)
    listing = await mcp_client.list_tools(server)
    result = await mcp_client.call_tool(server, "add", {"a": 1, "b": 2})

It sees no row: callers hand in a `Server` and store what they learn. `errors.py` draws the tree of errors;
`wire.py` and `sse.py` do no I/O; `posting.py` sends one message, `reading.py` reads its answer; `sessions.py` keeps
the handshake era's sessions; `eras.py` tells the eras apart; `calling.py` and `listing.py` are the two stories;
`questions.py` says what a tool hears that asks back.
"""

from tools.mcp_client.calling import call_tool, header_map
from tools.mcp_client.eras import discover
from tools.mcp_client.errors import (
    AnswerTooLarge,
    BadAnswer,
    Challenged,
    ConnectionLost,
    EraChanged,
    Forbidden,
    ListingNeverEnds,
    McpError,
    NeedsMore,
    NotStreamableHttp,
    OldSseTransport,
    RateLimited,
    Redirected,
    RpcError,
    ServerFailed,
    TimedOut,
    Unauthorized,
    UnexpectedStatus,
    Unsendable,
    UnsupportedVersion,
)
from tools.mcp_client.listing import list_tools
from tools.mcp_client.sessions import close
from tools.mcp_client.shapes import Era, ListedTool, Listing, OnProgress, Progress, Server, ServerFacts, ToolResult
from tools.mcp_client.wire import HeaderMap

__all__ = [
    "AnswerTooLarge",
    "BadAnswer",
    "Challenged",
    "ConnectionLost",
    "Era",
    "EraChanged",
    "Forbidden",
    "HeaderMap",
    "ListedTool",
    "Listing",
    "ListingNeverEnds",
    "McpError",
    "NeedsMore",
    "NotStreamableHttp",
    "OldSseTransport",
    "OnProgress",
    "Progress",
    "RateLimited",
    "Redirected",
    "RpcError",
    "Server",
    "ServerFacts",
    "ServerFailed",
    "TimedOut",
    "ToolResult",
    "Unauthorized",
    "UnexpectedStatus",
    "Unsendable",
    "UnsupportedVersion",
    "call_tool",
    "close",
    "discover",
    "header_map",
    "list_tools",
]

"""The one module that speaks MCP outwards: JSON-RPC over streamable HTTP, in both eras.

    facts = await mcp_client.discover(server)
    listing = await mcp_client.list_tools(server)
    outcome = await mcp_client.call_tool(server, "add", {"a": 1, "b": 2})
    match outcome:
        case mcp_client.ToolResult(): ...
        case mcp_client.Questions():  # a person answers; `faults` and `answer_faults` check what they say
            outcome = await mcp_client.call_tool(server, "add", {...}, answers=mcp_client.Answers(said, outcome.state))
        case mcp_client.Task():  # it goes on at its server, whatever happens here
            task = await mcp_client.get_task(server, outcome.id)

It sees no row: callers hand in a `Server` and store what they learn. `errors.py` draws the tree of errors.

    wire, sse                    bytes written and read, without I/O
    posting, responses           one message sent, its answer read under clocks and a cap
    budget                       how many bytes of large answers a process holds at a time
    eras, sessions               which era; the handshake era's sessions
    asking, server_stream        what servers of the handshake era ask in between, and a session's own stream
    questions, forms, responding what servers ask people, and whether the responses fit; without I/O
    results                      what a call comes to; without I/O
    calling, tasks, listing      the stories
"""

from tools.mcp_client.calling import call_tool, header_map
from tools.mcp_client.eras import discover
from tools.mcp_client.errors import (
    AnswerTooLarge,
    AnswerUnread,
    BadAnswer,
    BadQuestion,
    Challenged,
    ConnectionLost,
    EraChanged,
    Forbidden,
    ListingNeverEnds,
    ListingTooLarge,
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
from tools.mcp_client.responding import answer_faults, faults
from tools.mcp_client.sessions import close
from tools.mcp_client.shapes import (
    Answers,
    Ask,
    Era,
    ListedTool,
    Listing,
    OnProgress,
    Progress,
    Question,
    Questions,
    Response,
    Server,
    ServerFacts,
    Task,
    TaskStatus,
    ToolResult,
)
from tools.mcp_client.tasks import cancel_task, get_task, update_task
from tools.mcp_client.wire import HeaderMap

__all__ = [
    "AnswerTooLarge",
    "AnswerUnread",
    "Answers",
    "Ask",
    "BadAnswer",
    "BadQuestion",
    "Challenged",
    "ConnectionLost",
    "Era",
    "EraChanged",
    "Forbidden",
    "HeaderMap",
    "ListedTool",
    "Listing",
    "ListingNeverEnds",
    "ListingTooLarge",
    "McpError",
    "NeedsMore",
    "NotStreamableHttp",
    "OldSseTransport",
    "OnProgress",
    "Progress",
    "Question",
    "Questions",
    "RateLimited",
    "Redirected",
    "Response",
    "RpcError",
    "Server",
    "ServerFacts",
    "ServerFailed",
    "Task",
    "TaskStatus",
    "TimedOut",
    "ToolResult",
    "Unauthorized",
    "UnexpectedStatus",
    "Unsendable",
    "UnsupportedVersion",
    "answer_faults",
    "call_tool",
    "cancel_task",
    "close",
    "discover",
    "faults",
    "get_task",
    "header_map",
    "list_tools",
    "update_task",
]

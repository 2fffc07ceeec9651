"""The one module that speaks MCP outwards: JSON-RPC over streamable HTTP, in both eras.

    facts = await mcp_client.discover(server)
    listing = await mcp_client.list_tools(server)
    outcome = await mcp_client.call_tool(server, "add", {"a": 1, "b": 2})
    match outcome:
        case mcp_client.ToolResult(): ...
        case mcp_client.Questions():  # a person answers; `faults` and `answer_faults` check what they say
            answers = mcp_client.Answers(responses, outcome.state)
            outcome = await mcp_client.call_tool(server, "add", {...}, answers=answers)
        case mcp_client.Task():  # it goes on at its server, whatever happens here
            task = await mcp_client.get_task(server, outcome.id)

It uses no row: callers pass a `Server` and store what comes back. `errors.py` draws the tree of errors.

    wire, sse                    bytes written and read, without I/O
    posting, responses, clock    one message sent, its response read within timeouts and a size limit
    parsing                      a message parsed where that holds up nobody else
    budget                       how many bytes of large responses a process holds at a time
    eras                         which era a server speaks
    handshake, sessions          the sessions of the handshake era: opened, used, ended
    server_requests              what a server of the handshake era asks while a call is under way
    server_stream                the GET stream of a session, on which it may ask as well
    questions, forms, responding what servers ask people, and whether the responses fit; without I/O
    results                      the outcome of a call; without I/O
    calling, tasks, listing      tools/call, the methods of tasks, tools/list
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
    EraPinned,
    Forbidden,
    HandshakeRefused,
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
    TakenForABot,
    TimedOut,
    Unauthorized,
    UnexpectedStatus,
    Unsendable,
    UnsupportedVersion,
)
from tools.mcp_client.listing import list_tools
from tools.mcp_client.quoting import sentence_of
from tools.mcp_client.responding import answer_faults, faults
from tools.mcp_client.sessions import Sessions, close
from tools.mcp_client.sessions import end as end_session
from tools.mcp_client.shapes import (
    Answers,
    Ask,
    Era,
    KeptSession,
    ListedTool,
    Listing,
    LogLine,
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
    "EraPinned",
    "Forbidden",
    "HandshakeRefused",
    "HeaderMap",
    "KeptSession",
    "ListedTool",
    "Listing",
    "ListingNeverEnds",
    "ListingTooLarge",
    "LogLine",
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
    "Sessions",
    "TakenForABot",
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
    "end_session",
    "faults",
    "get_task",
    "header_map",
    "list_tools",
    "sentence_of",
    "update_task",
]

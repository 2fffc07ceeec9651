"""What a tenant does with a connection.

Connection ──┬── Probe                    one check, with its report
             ├── CheckDay                 how its checks went, by day
             ├── McpSession               what the server remembers for one assignment
             └── Tool ─── ToolVersion     what the server offers, and what was approved
Tenant ──┬── Assignment ──┬── AccessToken   a caller and its tokens
         │                ├── Consent       whom its owner lets act in their name,
         │                └── OwnerNotice   and the notices to the owner about it
         ├── DailyUse                 how much was called, by day
         └── Call ──┬── CallEvent         one request to run one tool, its transitions,
                    └── StoredContent     and what is too large for its result
"""

from tools.models.assignments import AccessToken, Assignment, Consent
from tools.models.call_events import CallEvent
from tools.models.calls import Call
from tools.models.catalog import Placement, Policy, Probe, Tool, ToolVersion
from tools.models.check_days import CheckDay
from tools.models.contents import StoredContent
from tools.models.owner_notices import OwnerNotice
from tools.models.sessions import McpSession, StreamReader
from tools.models.usage import DailyUse, UseMark

__all__ = [
    "AccessToken", "Assignment", "Call", "CallEvent", "CheckDay", "Consent", "DailyUse", "McpSession", "OwnerNotice",
    "Placement", "Policy", "Probe", "StoredContent", "StreamReader", "Tool", "ToolVersion", "UseMark",
]  # fmt: skip

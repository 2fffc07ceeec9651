"""What a tenant does with a connection.

Connection ──┬── Probe                    one check, with its report
             └── Tool ─── ToolVersion     what the server offers, and what was approved
Tenant ──┬── Assignment ─── AccessToken   a caller and its keys
         └── Call                         one request to run one tool
"""

from tools.models.assignments import AccessToken, Assignment
from tools.models.calls import Call
from tools.models.catalogue import Policy, Probe, Tool, ToolVersion

__all__ = ["AccessToken", "Assignment", "Call", "Policy", "Probe", "Tool", "ToolVersion"]

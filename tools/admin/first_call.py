"""What the page of a new token offers to copy: a real call of a real tool, and what has come of it."""

from __future__ import annotations

import json
from pprint import pformat
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from connections.errors import DuvoError
from connections.tenancy import ADMINS_AND_AUDITORS, ClosedAdmin, person
from tools.definitions import checks, examples
from tools.models import AccessToken, Assignment, Call, Policy, Tool

TOKEN = "$DUVO_TOKEN"  # noqa: S105 - the name of a variable, where the token itself is not shown
_LABELS = {"curl": "In a shell", "python": "In Python"}
_LOOKED_AT = 50  # tools
_LONGEST = 2_000  # characters of the arguments as JSON

CURL = """curl -s {url}/v1/tools/{tool}/call \\
    -H "Authorization: Bearer {token}" \\
    -H "Content-Type: application/json" \\
    -d '{body}'"""
PYTHON = """import json{imports}
import urllib.request

arguments = {arguments}
request = urllib.request.Request(
    "{url}/v1/tools/{tool}/call",
    data=json.dumps({{"arguments": arguments}}).encode(),
    headers={{
        "Authorization": {token},
        "Content-Type": "application/json",
    }},
)
with urllib.request.urlopen(request) as answer:
    print(json.dumps(json.load(answer), indent=2))"""
LIST = """curl -s {url}/v1/{what} -H "Authorization: Bearer {token}\""""


class Sample(NamedTuple):
    """A tool with arguments that fit its schema, and whether its server says that it only reads."""

    tool: str
    arguments: dict[str, Any]
    only_reads: bool


def sample(assignment: Assignment) -> Sample | None:
    """Return a tool that the assignment may use now, rather one that only reads; None if no example fits any."""
    usable = assignment.granted_tools().usable().exclude(policy=Policy.ASK)
    tools = list(usable.only("public_name", "approved_definition", "connection__tenant_id")[:_LOOKED_AT])
    for tool in sorted(tools, key=_how_willing):
        if (fitting := _fitting(tool, assignment)) is not None:
            return Sample(tool.public_name, fitting, only_reads=_only_reads(tool))
    return None


def snippets(found: Sample | None, token: str = "") -> dict[str, str]:
    """Return the lines to copy, with the token itself where it is shown, else with the variable that holds it."""
    url, said = settings.PUBLIC_URL, token or TOKEN
    if found is None:
        return {"curl": LIST.format(url=url, what="tools", token=said)}
    body = json.dumps({"arguments": found.arguments}).replace("'", "'\\''")  # ASCII only: nothing in it is invisible
    bearer = f'"Bearer {token}"' if token else "f\"Bearer {os.environ['DUVO_TOKEN']}\""
    python = PYTHON.format(
        url=url, tool=found.tool, arguments=pformat(found.arguments, width=100, sort_dicts=False), token=bearer,
        imports="" if token else "\nimport os",
    )  # fmt: skip
    return {"curl": CURL.format(url=url, tool=found.tool, token=said, body=body), "python": python}


def told(request: HttpRequest, page: ClosedAdmin, token: AccessToken, secret: str = "") -> dict[str, Any]:
    """Return the context of the page of a new token: what to copy, and what has come of it."""
    assignment = token.assignment
    found = sample(assignment) if assignment is not None else None
    lines = snippets(found, secret) if assignment is not None else {"curl": _of_a_person(secret)}
    call = first_call(token)
    return {
        **page.admin_site.each_context(request),
        "row": token,
        "sample": found,
        "snippets": [(name, label, lines[name]) for name, label in _LABELS.items() if name in lines],
        "call": call,
        "milliseconds": round((call.finished_at - call.created_at).total_seconds() * 1000)
        if call and call.finished_at
        else None,
        "sees_calls": call is not None and person(request).roles.get(call.tenant_id) in ADMINS_AND_AUDITORS,
        "poll": reverse("admin:tools_assignment_first_call", args=[assignment.pk, token.pk]) if assignment else "",
        "opts": page.opts,
    }


def _of_a_person(secret: str) -> str:
    return LIST.format(url=settings.PUBLIC_URL, what="me", token=secret or TOKEN)


def first_call(token: AccessToken) -> Call | None:
    """Return the first call that was made with a token of an assignment."""
    if token.assignment is None:
        return None
    since = token.assignment.calls.filter(created_at__gte=token.created_at)  # by the index, from there on
    rows = since.filter(token=token).order_by("created_at", "pk")
    return rows.only("tool_name", "state", "created_at", "finished_at", "error_code", "tenant_id").first()


def _annotations(tool: Tool) -> dict[str, Any]:
    said = (tool.approved_definition or {}).get("annotations")
    return said if isinstance(said, dict) else {}


def _only_reads(tool: Tool) -> bool:
    return _annotations(tool).get("readOnlyHint") is True


def _how_willing(tool: Tool) -> tuple[bool, bool, int, str]:
    schema = (tool.approved_definition or {}).get("inputSchema") or {}
    required = schema.get("required") if isinstance(schema, dict) else None
    harmless = _annotations(tool).get("destructiveHint") is False
    return not _only_reads(tool), not harmless, len(required or []), tool.public_name


def _fitting(tool: Tool, assignment: Assignment) -> dict[str, Any] | None:
    """Return example arguments that pass the tool's approved schema, None where none can be made here and now."""
    try:
        schema = (tool.approved_definition or {})["inputSchema"]
        checker = checks.checker(schema, tenant=str(assignment.tenant_id))
        if checker.compiled is None:  # too heavy to be checked for a page
            return None
        value = examples.arguments(schema)
        fits = len(json.dumps(value)) <= _LONGEST and not checker.faults_sync(value, tenant=assignment.tenant_id)
    except (examples.NoExample, DuvoError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return value if fits else None

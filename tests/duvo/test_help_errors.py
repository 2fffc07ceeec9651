"""Every code that a program may meet stands on the help page *Errors*, and nothing else does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import Client

from connections.states import _NEXT_STEPS
from tests.conftest import House
from tests.live import Api

ROOT = Path(settings.BASE_DIR)
PAGE = (ROOT / "templates" / "help" / "errors.md").read_text()
ROOMS = ("connections", "oauth", "tools", "duvo")

# What is raised, and never becomes the code of a problem.
NEVER = {
    *("call_failed", "connection_not_ready", "limit_reached", "tool_set_aside"),  # always with a code of their own
    *("usable", "tool_asks"),  # tools that may be used
    *("credential_missing", "settings_changed"),  # of a check: the connection's state says it
    "schema_broken",  # becomes tool_broken
    "lease_lost",  # is heard by nobody: another process has the call
    "connection_changed",  # of the page Connect, which says it
    *("too_busy", "try_later"),  # of the pages of the admin
    *("mail_not_taken", "link_is_over", "ambiguous"),  # of pages and commands about people
    # Of signing in with one's company: People and sign-in has them.
    *("provider_fault", "configuration_incomplete", "not_answered", "no_id_token", "bad_signature", "no_address"),
    *("other_issuer", "other_browser", "other_sender", "other_domain", "not_let_in", "not_this_way"),
    *("staff", "deactivated", "removed", "unproved_address"),
    "channel_not_told",
    "webhook_not_taken",  # the notice says it
    *("upstream_challenged", "upstream_mcp_error"),  # kinds of errors
    "upstream_timed_out",  # becomes timed_out
    *("upstream_listing_never_ends", "upstream_listing_too_large"),  # no call lists
}
# An MCP error's own code is that of a problem where a check found it: the transport is not supported.
FOUND_BY_A_CHECK = {"not_streamable_http", "old_sse_transport", "unsupported_version"}


@cache
def sources() -> dict[Path, ast.Module]:
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py") if "migrations" not in file.parts]
    return {file: ast.parse(file.read_text()) for file in files}


def nodes(kind: type[Any], within: str = "") -> Iterator[Any]:
    for file, tree in sources().items():
        if not within or file.name == within:
            yield from (node for node in ast.walk(tree) if isinstance(node, kind))


def text(node: Any) -> set[str]:
    """The text that an expression is, if it is one."""
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def called(node: Any) -> str:
    """The last part of a dotted name."""
    return getattr(node, "id", getattr(node, "attr", ""))


def family(root: str) -> set[str]:
    """The names of a class and everything below it."""
    found = {root}
    while more := {node.name for node in nodes(ast.ClassDef) if found & {called(base) for base in node.bases}} - found:
        found |= more
    return found


def codes_of(classes: set[str]) -> set[str]:
    """The codes that these classes have, or are raised with."""
    own = {
        code
        for node in nodes(ast.ClassDef)
        if node.name in classes
        for line in node.body
        if isinstance(line, ast.Assign) and called(line.targets[0]) == "code"
        for code in text(line.value)
    }
    given = {
        code
        for node in nodes(ast.Call)
        if called(node.func) in classes
        for keyword in node.keywords
        if keyword.arg == "code"
        for code in text(keyword.value)
    }
    return own | given


def arguments(function: str, position: int) -> set[str]:
    """The texts that are given to functions of this name at this position."""
    calls = (node for node in nodes(ast.Call) if called(node.func) == function and len(node.args) > position)
    return {code for node in calls for code in text(node.args[position])}


def table(name: str, within: str, *, values: bool = False) -> set[str]:
    """The texts of a dictionary that a module keeps under this name."""
    for node in nodes(ast.Assign, within):
        if called(node.targets[0]) == name and isinstance(node.value, ast.Dict):
            return {code for entry in (node.value.values if values else node.value.keys) for code in text(entry)}
    raise AssertionError(f"{within} has no {name} any more")


def codes_in_code() -> set[str]:
    mcp, oauth = family("McpError"), family("OAuthError")
    found = codes_of(family("DuvoError") - mcp - oauth)
    found |= {f"upstream_{code}" for code in codes_of(mcp)} | FOUND_BY_A_CHECK
    found |= arguments("problem", 1) | table("_CODES", "problems.py", values=True)
    found |= arguments("Failure", 0) | arguments("refused", 0) | table("SENTENCES", "urls.py")
    found |= arguments("Standing", 0) | arguments("Availability", 0) | arguments("end", 1)
    limits = table("_SENTENCES", "limits.py") - {"open_calls", "stored"}  # those two are quotas
    return (found | limits) - NEVER


def test_the_page_has_every_code_and_no_other() -> None:
    on_the_page = re.findall(r"^### (\S+)$", PAGE, re.MULTILINE)
    assert len(on_the_page) == len(set(on_the_page))
    assert set(on_the_page) == codes_in_code()


def test_every_entry_says_its_status_and_a_sentence() -> None:
    for entry in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        code, _, said = entry.partition("\n\n")
        assert re.match(r"`[45][0-9x]{2}(, [45]\d\d)?` [A-Z`].+\.", said, re.DOTALL), code


def test_the_page_has_the_reasons_of_every_state_and_no_other() -> None:
    section = PAGE.partition("## Reasons of a connection's states")[2]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    reasons = [reason for row in rows for reason in re.findall(r"`(\w+)`", row)]
    assert len(reasons) == len(set(reasons))
    assert set(reasons) == set(_NEXT_STEPS)


def test_the_page_has_the_codes_of_what_a_form_refuses() -> None:
    section = PAGE.partition("## Codes inside errors")[2].partition("\n## ")[0]
    given = {
        code
        for file, tree in sources().items()
        if file.parent.name == "forms"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node.func) == "ValidationError"
        for keyword in node.keywords
        if keyword.arg == "code"
        for code in text(keyword.value)
    }
    assert given
    assert given <= set(re.findall(r"`(\w+)`", section))


def test_the_type_of_a_problem_leads_to_its_entry(acme: House, api: Api, client: Client, settings: Any) -> None:
    settings.PUBLIC_URL = "https://tools.acme.example"
    problems = [
        api.get("/v1/tools").json(),
        api.as_("duvo_nothing").call("nothing").json(),
        api.as_(acme.token()).call("nothing").json(),
        api.get("/v1/nothing").json(),
    ]
    page = client.get("/help/errors/").content.decode()
    for problem in problems:
        assert problem["type"] == f"https://tools.acme.example/help/errors/#{problem['code']}"
        assert f'id="{problem["code"]}"' in page

"""What a server may have us keep: definitions, their history, tools that are gone. Bounded, and drift is still seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import Connection
from tests.conftest import House
from tests.servers import kinds
from tests.servers.running import McpServer
from tests.servers.toolbox import Toolbox
from tools import mcp_client
from tools.catalog.listing import apply
from tools.mcp_client.listing import sort_out
from tools.models import Probe, Tool, ToolVersion

pytestmark = pytest.mark.django_db

Probed = Callable[[Connection], Probe]
FACTS = mcp_client.ServerFacts("modern", "2026-07-28")


def offered(connection: Connection, *definitions: dict[str, Any]) -> None:
    """Have a server list these tools."""
    good, broken = sort_out([{"inputSchema": {"type": "object"}, **one} for one in definitions], modern=True)
    apply(connection, mcp_client.Listing(good, broken, FACTS, 1))


def kept(tool: Tool) -> list[str]:
    return [version.digest for version in tool.versions.all()]


def test_a_definition_that_is_too_large_sets_its_tool_aside_and_is_not_kept(
    acme: House, mcp_server: Callable[..., McpServer], probed: Probed
) -> None:
    box = Toolbox()
    box.add("small")
    box.add("large", description="x" * 70_000)
    connection = acme.connection(url=mcp_server("modern", box).url)
    assert probed(connection).outcome == "passed"
    large = Tool.objects.get(name="large")
    assert large.availability.code == "tool_broken"
    assert large.broken == "The definition is larger than 64 KB, the most that is kept."
    assert len(str(large.definition)) < 300
    assert list(Tool.objects.usable().values_list("name", flat=True)) == ["small"]
    before = large.digest
    box.change("large", description="x" * 69_999 + "y")
    probed(connection)
    large.refresh_from_db()
    assert large.digest != before


def test_a_tool_in_use_that_grows_too_large_is_out_of_use_and_keeps_what_was_approved(acme: House) -> None:
    connection = acme.connection()
    offered(connection, {"name": "ship", "description": "Ships."})
    offered(connection, {"name": "ship", "description": "x" * 9_000_000})
    tool = Tool.objects.get()
    assert (tool.availability.code, (tool.approved_definition or {})["description"]) == ("tool_broken", "Ships.")


@pytest.mark.parametrize(
    "tools",
    [
        [{"name": f"t{number}", "inputSchema": {}} for number in range(5_001)],
        [{"name": f"t{number}", "description": "x" * 1_000_000, "inputSchema": {}} for number in range(11)],
    ],
)
def test_a_listing_that_is_too_long_is_said_and_what_was_listed_before_stays(
    tools: list[dict[str, Any]], acme: House, mcp_server: Callable[..., McpServer], probed: Probed
) -> None:
    server = mcp_server("modern")
    connection = acme.connection(url=server.url)
    probed(connection)
    before = list(Tool.objects.values_list("name", "digest", "gone_at"))
    size = -(-len(tools) // 11)  # on pages: one answer is bounded for itself
    pages = [tools[at : at + size] for at in range(0, len(tools), size)]
    said = [{"tools": page, "nextCursor": str(number)} for number, page in enumerate(pages[:-1])]
    rules = [kinds.once(kinds.says(result=page)) for page in said] + [kinds.says(result={"tools": pages[-1]})]
    server.behave(kinds.only_modern, *(kinds.only_on("tools/list", rule) for rule in rules))
    report = probed(connection)
    assert (report.outcome, report.reason) == ("failed", "listing_too_large")
    assert "5,000 tools" in connection.tools_sentence
    assert connection.next_step
    assert list(Tool.objects.values_list("name", "digest", "gone_at")) == before


def test_a_tool_that_changes_at_each_check_keeps_few_versions_and_what_was_approved(acme: House) -> None:
    connection = acme.connection()
    for number in range(30):
        offered(connection, {"name": "ship", "description": f"Ships {number}."})
    tool = Tool.objects.get()
    assert tool.versions.count() == 21  # twenty, and the approved one, which is the oldest
    assert {tool.digest, tool.approved_digest} <= set(kept(tool))


def test_the_versions_of_a_tool_and_of_a_connection_have_few_bytes_together(acme: House) -> None:
    connection = acme.connection()
    for number in range(18):
        offered(connection, {"name": "ship", "description": f"{number}" + "x" * 60_000})
    assert 14 < Tool.objects.get().versions.count() < 18
    for number in range(3):
        offered(connection, *({"name": f"t{n}", "description": f"{number}" + "x" * 60_000} for n in range(100)))
    assert sum(ToolVersion.objects.values_list("size", flat=True)) < 20_000_000
    assert all(tool.digest in kept(tool) for tool in Tool.objects.all())


def test_tools_that_are_gone_are_forgotten_unless_somebody_decided_about_them_or_used_them(acme: House) -> None:
    connection = acme.connection()
    names = ["unseen", "denied", "approved", "chosen", "called"]
    offered(connection, *({"name": name} for name in names))
    tools = {tool.name: tool for tool in Tool.objects.all()}
    Tool.objects.filter(name="denied").update(policy="deny")
    Tool.objects.filter(name="approved").update(approved_by="ann")
    assignment = acme.assignment()
    assignment.tools.set([tools["chosen"]])
    acme.tenant.calls.create(tool=tools["called"], tool_name="orders__called", sealed_arguments="x")
    offered(connection)
    assert Tool.objects.count() == 5
    Tool.objects.update(gone_at=timezone.now() - timedelta(days=31))
    offered(connection)
    assert set(Tool.objects.values_list("name", flat=True)) == {"denied", "approved", "chosen", "called"}


def test_a_server_with_other_tools_at_each_check_leaves_few_that_are_gone(acme: House) -> None:
    connection = acme.connection()
    for number in range(4):
        offered(connection, *({"name": f"t{number}-{n}"} for n in range(300)))
    assert Tool.objects.filter(gone_at=None).count() == 300
    assert Tool.objects.exclude(gone_at=None).count() == 500


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": [value]}
    return value


HOSTILE = {
    "bracket": "[" * 20_000,
    "deep": deep(110),
    "wide": {f"k{number}": {} for number in range(1_000)},
    "list": [[]] * 2_000,
    "hidden": "\u200b" * 5_000,
    "nul": "\0" * 100,
    "number": 1e308,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_stands_where_in_a_definition_it_is_listed_reviewed_and_shown(
    what: str, acme: House, signed_in: Callable[..., Client]
) -> None:
    connection, value = acme.connection(), HOSTILE[what]
    places: list[dict[str, Any]] = [
        {"title": value}, {"description": value}, {"annotations": value}, {"annotations": {"title": value}},
        {"inputSchema": {"type": "object", "default": value}}, {"inputSchema": {"type": "object", "properties": value}},
        {"inputSchema": value}, {"outputSchema": value}, {"icons": value}, {"_meta": value}, {"x-more": value},
        {"execution": value}, {"name": value},
    ]  # fmt: skip
    offered(connection, *({"name": f"t{number}"} for number in range(len(places))))
    offered(connection, *({"name": f"t{number}", **place} for number, place in enumerate(places)))
    client = signed_in(acme.admin)
    for tool in Tool.objects.all():
        assert client.get(f"/admin/tools/tool/{tool.pk}/change/").status_code == 200, tool.definition
    assert client.get("/admin/tools/tool/").status_code == 200
    chosen: dict[str, Any] = {"action": "approve_chosen", "_selected_action": [tool.pk for tool in Tool.objects.all()]}
    assert client.post("/admin/tools/tool/", chosen).status_code in (200, 302)

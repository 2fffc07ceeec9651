"""An organization admin at the browser, in the middle of a call: approves it, answers its server, sees it succeed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from connections.models import Connection
from tests.browser.conftest import Visit, Visitor
from tests.conftest import House
from tests.live import Api
from tests.processes import StartWorker
from tests.servers.asking import asking
from tests.servers.fixtures import StartServer
from tests.servers.toolbox import Result, Toolbox, schema, text
from tools.calls import life, offers
from tools.models import Call, Probe, Tool

pytestmark = pytest.mark.browser

LATER = {"Prefer": "respond-async"}
HINTS = {"destructiveHint": True, "idempotentHint": False, "openWorldHint": True}
ORDER = {"order": "2026-0417", "lines": [{"sku": "bolt-m4", "count": 200}], "express": True}


@dataclass
class Counter:
    """A connection whose tools ask, and an assignment that calls them."""

    connection: Connection
    api: Api

    def call(self, tool: str, arguments: dict[str, Any] | None = None) -> Call:
        answer = self.api.call(f"orders__{tool}", arguments, headers=LATER)
        assert answer.status_code == 202, answer.text
        return Call.objects.get(pk=answer.json()["id"])


@pytest.fixture
def counter(api: Api, acme: House, mcp_server: StartServer, probed: Callable[[Connection], Probe]) -> Counter:
    """Tools that ask a person, and one whose calls are approved one by one."""

    async def ship(arguments: dict[str, Any], _: Any) -> Result:
        return text(f"Order {arguments['order']} is on its way.", structuredContent={"shipped": arguments["order"]})

    box: Toolbox = asking()
    fields = schema(order={"type": "string"}, lines={"type": "array"}, express={"type": "boolean"})
    box.add("ship", ship, input_schema=fields, annotations=HINTS)
    connection = acme.connection("Orders", mcp_server("modern", box).url)
    assert probed(connection).outcome == "passed"
    Tool.objects.filter(name="ship").update(policy="ask")
    offers.forget()
    return Counter(connection, api.as_(acme.token()))


def page_of(call: Call) -> str:
    return f"/admin/tools/call/{call.pk}/change/"


def state(page: Page) -> Any:
    return expect(page.locator("[data-part=state]"))


def clean(person: Visitor) -> None:
    """Nothing is too wide, the browser has no complaint, nor has axe, whose own styles it would complain about."""
    assert person.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), person.page.url
    assert person.complaints == []
    assert person.violations() == []
    person.complaints.clear()


def test_an_approval_is_given_and_every_open_page_sees_the_call_succeed(
    counter: Counter, acme: House, visit: Visit, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker()
    call = counter.call("ship", ORDER)
    ann, bob = visit(acme.admin), visit(acme.auditor)
    bob.open(page_of(call))
    state(bob.page).to_have_text("Awaiting approval")
    ann.open("/admin/")
    ann.page.get_by_role("link", name="orders__ship", exact=True).first.click()
    expect(ann.page.get_by_label("Arguments", exact=True)).to_contain_text("2026-0417")
    expect(ann.page.locator(".hints")).to_contain_text("may destroy")
    ann.shoot("approval", tmp_path)
    ann.page.get_by_role("button", name="Approve").click()
    for person in (ann, bob):
        state(person.page).to_have_text("Succeeded")
        expect(person.page.locator(".move-succeeded")).to_be_visible()
        expect(person.page.get_by_role("heading", name="Approval")).to_have_count(0)
        expect(person.page.locator("#facts")).to_contain_text("admin@acme.example")
    ann.page.get_by_role("link", name="Show arguments and result").click()
    expect(ann.page.locator("#contents")).to_contain_text("Order 2026-0417 is on its way.")
    ann.shoot("succeeded", tmp_path)
    assert ann.complaints == []


def test_a_question_appears_on_the_open_page_and_its_answer_is_in_the_result(
    counter: Counter, acme: House, visit: Visit, start_worker: StartWorker, tmp_path: Path
) -> None:
    call = counter.call("ask_form")
    ann = visit(acme.admin)
    ann.open(page_of(call))
    state(ann.page).to_have_text("Queued")
    start_worker()
    expect(ann.page.get_by_role("heading", name="Orders asks")).to_be_visible(timeout=60_000)
    ann.page.get_by_label("Name").fill("Ada")
    ann.page.get_by_label("site").fill("nowhere at all")
    ann.page.get_by_label("Small").first.check()
    ann.page.get_by_role("button", name="Send").evaluate("button => { button.form.noValidate = true; }")
    ann.page.get_by_role("button", name="Send").click()
    expect(ann.page.get_by_text("This is no valid uri.")).to_be_visible()
    ann.shoot("question", tmp_path)
    ann.page.get_by_label("site").fill("https://acme.example/")
    ann.page.get_by_role("button", name="Send").click()
    state(ann.page).to_have_text("Succeeded")
    expect(ann.page.get_by_role("heading", name="Orders asks")).to_have_count(0)
    ann.page.get_by_role("link", name="Show arguments and result").click()
    expect(ann.page.locator("#contents")).to_contain_text('"site": "https://acme.example/"')
    assert ann.complaints == []


def test_what_somebody_is_typing_is_not_thrown_away(counter: Counter, acme: House, visit: Visit) -> None:
    call = counter.call("ship", ORDER)
    ann = visit(acme.admin)
    ann.open(page_of(call))
    ann.page.get_by_text("Refuse it", exact=True).click()
    ann.page.get_by_label("Reason").fill("Ask Grace first.")
    counter.api.post(f"/v1/calls/{call.pk}/cancel")
    expect(ann.page.get_by_text("what you entered can no longer be sent")).to_be_visible()
    expect(ann.page.get_by_label("Reason")).to_have_value("Ask Grace first.")
    state(ann.page).to_have_text("Cancelled")


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark")])
def test_the_pages_of_a_call_are_accessible(
    counter: Counter, acme: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    shipped, both, visited = counter.call("ship", ORDER), counter.call("ask_both"), counter.call("ask_visit")
    life.resume(both.pk)
    life.resume(visited.pk)
    ann = visit(acme.admin, width=width, colours=colours)
    tool = Tool.objects.get(name="ship")
    pages = {
        "start": "/admin/", "approval": page_of(shipped), "both": page_of(both), "visit": page_of(visited),
        "list": "/admin/tools/call/", "tool": f"/admin/tools/tool/{tool.pk}/change/",
        "assignment": "/admin/tools/assignment/add/",
    }  # fmt: skip
    for name, path in pages.items():
        ann.open(path)
        ann.shoot(f"{name}-{colours}", tmp_path)
        clean(ann)
    life.approve(shipped, by="ann")
    life.resume(shipped.pk)
    ann.open(f"/admin/tools/call/{shipped.pk}/contents/")
    expect(ann.page.locator("#contents")).to_contain_text("is on its way")
    ann.shoot(f"contents-{colours}", tmp_path)
    clean(ann)

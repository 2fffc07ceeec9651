"""Ending means ending: whatever an admin ends, nothing more is sent for the calls that were under way.

The table is every way of ending beside every way in which a call may be under way. All doors are pressed that would
let it go on, and the server counts what it hears after the end: nothing, or one word that a task is wanted no more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import Tenant, User
from tests.conftest import House
from tests.servers.asking import ONE_NAME, form
from tests.servers.tasks import TaskBox
from tests.servers.toolbox import Result, schema, text
from tests.tools.conftest import OpenShop, Shop, eventually
from tools import callers
from tools.calls import answering, ending, life, offers, polling
from tools.catalog import probing
from tools.models import AccessToken, Assignment, Call, Tool

ADA = {"action": "accept", "content": {"name": "Ada"}}
SignedIn = Callable[[User | None], Client]


@dataclass
class Yard:
    """A shop with a call in every state that is not final, and the browser of its admin."""

    shop: Shop
    box: TaskBox
    admin: Client
    staff: Client

    @property
    def token(self) -> AccessToken:
        return self.shop.assignment.access_tokens.get()

    def page(self, row: Any) -> str:
        return f"/admin/{row._meta.app_label}/{row._meta.model_name}/{row.pk}"

    def press(self, path: str, client: Client | None = None, **data: str) -> None:
        answer = (client or self.admin).post(path, data)
        assert answer.status_code == 302, answer.content[:500]

    def begin(self) -> None:
        """Have calls under way: one awaits approval, one is queued, one is a task, one asks, one was answered."""
        for tool in ("approved", "queued"):
            wanted = {"approved": "wait=0", "queued": "respond-async"}[tool]
            assert self.shop.call(tool, {"text": "x"}, headers={"Prefer": wanted}).status_code == 202
        for tool in ("report", "asks", "answered"):
            assert self.shop.call(tool, headers={"Prefer": "wait=1"}).status_code == 202
            call = self.call(tool)
            if tool != "report":
                self.box.jobs[-1].ask(who=form("Who?", ONE_NAME))
                polling.poll(call.pk)
                assert self.call(tool).state == "input_required"
        answering.answer(self.call("answered"), {"who": ADA})

    def call(self, tool: str) -> Call:
        return Call.objects.get(tool_name=f"orders__{tool}")

    def go_on(self) -> None:
        """Press, in the browser and as the workers do, whatever would let the calls go on."""
        callers.principals.clear()
        offers.forget()
        for call in Call.objects.filter(finished_at=None):
            self.admin.post(f"{self.page(call)}/approve/")
        asking = self.call("asks")
        if not asking.finished:
            page = self.admin.get(f"{self.page(asking)}/change/")
            mark = (page.context["questions"] or {}).get("mark", "")
            said = {"mark": mark, "action": "accept", "question-1-field-0": "Ada"}
            self.admin.post(f"{self.page(asking)}/answer/", said)
            self.shop.api.post(f"/v1/calls/{asking.pk}/input", {"responses": {"who": ADA}})
        later = timezone.now() + timedelta(minutes=3)
        for call_id in [*life.sweep(timezone.now()), *Call.objects.values_list("pk", flat=True)]:
            life.resume(call_id)
        for call_id in [*polling.due(later), *Call.objects.values_list("pk", flat=True)]:
            polling.poll(call_id)
        for call in Call.objects.exclude(sealed_task=""):
            polling.cancel(call.pk)
        probing.probe(self.shop.connection.pk)


@pytest.fixture
def yard(open_shop: OpenShop, acme: House, superuser: User, signed_in: SignedIn) -> Yard:
    box = TaskBox()
    for name in ("approved", "queued"):
        box.add(name)
    for name in ("asks", "answered"):
        box.add(name, box.report, input_schema=schema())
    yard = Yard(open_shop(box), box, signed_in(acme.admin), signed_in(superuser))
    yard.shop.set_tool("approved", policy="ask")
    return yard


def revoke(yard: Yard) -> None:
    yard.press(
        f"{yard.page(yard.shop.assignment)}/tokens/{yard.token.pk}/revoke/", ends_calls_asked="1", ends_calls="1"
    )


def expire(yard: Yard) -> None:
    AccessToken.objects.update(expires_at=timezone.now())


def disable_the_assignment(yard: Yard) -> None:
    yard.press(f"{yard.page(yard.shop.assignment)}/change/", name=yard.shop.assignment.name, scope="all")


def delete_the_assignment(yard: Yard) -> None:
    yard.press(f"{yard.page(yard.shop.assignment)}/delete/", post="yes")


def take_the_tools_away(yard: Yard) -> None:
    change = f"{yard.page(yard.shop.assignment)}/change/"
    yard.press(change, name=yard.shop.assignment.name, enabled="on", scope="chosen")


def disable_the_connection(yard: Yard) -> None:
    chosen = str(yard.shop.connection.pk)
    yard.press("/admin/connections/connection/", action="disable", _selected_action=chosen)


def delete_the_connection(yard: Yard) -> None:
    yard.press(f"{yard.page(yard.shop.connection)}/delete/", post="yes")


def deny_the_tools(yard: Yard) -> None:
    for tool in Tool.objects.all():
        yard.press(f"{yard.page(tool)}/policy/", policy="deny")


def change_the_tools(yard: Yard) -> None:
    for name in yard.box.definitions:
        yard.box.change(name, description="Something else.")
    probing.probe(yard.shop.connection.pk)


def suspend(yard: Yard) -> None:
    yard.press(f"{yard.page(yard.shop.assignment.tenant)}/suspend/", yard.staff, reason="Unpaid.")


# How it ends, which code the calls then have, and whether a server may be told once to cancel its task.
ENDINGS: dict[str, tuple[Callable[[Yard], None], str, bool]] = {
    "the token is revoked": (revoke, "asker_gone", True),
    "the token expires": (expire, "asker_gone", True),
    "the assignment is disabled": (disable_the_assignment, "asker_gone", True),
    "the assignment is deleted": (delete_the_assignment, "asker_gone", False),
    "the tools are taken away": (take_the_tools_away, "tool_not_found", True),
    "the connection is disabled": (disable_the_connection, "connection_disabled", False),
    "the connection is deleted": (delete_the_connection, "tool_not_found", False),
    "the tools are denied": (deny_the_tools, "tool_denied", True),
    "the tools are set aside": (change_the_tools, "tool_changed", True),
}
LISTENS_ON = {"the token is revoked", "the token expires", "the assignment is disabled", "the assignment is deleted",
              "the tools are taken away", "the tools are denied", "the tools are set aside"}  # fmt: skip


@pytest.mark.parametrize("how", ENDINGS)
def test_after_the_end_nothing_is_sent_for_what_was_under_way(yard: Yard, how: str) -> None:
    end, code, may_tell = ENDINGS[how]
    yard.begin()
    end(yard)
    before = len(yard.shop.server.requests)
    yard.go_on()
    heard = [request.rpc_method for request in yard.shop.server.requests[before:]]
    checks = {"server/discover", "tools/list", "initialize", "notifications/initialized", None}
    sent = [method for method in heard if method not in checks or how not in LISTENS_ON]
    assert set(sent) <= ({"tasks/cancel"} if may_tell else set()), sent
    assert yard.box.executions["approved"] == yard.box.executions["queued"] == 0
    ends = {call.tool_name.removeprefix("orders__"): (call.state, call.error_code) for call in Call.objects.all()}
    nothing_sent, in_part = ("failed", code), ("cancelled", code)
    assert ends == {
        "approved": nothing_sent, "queued": nothing_sent, "report": in_part, "asks": in_part, "answered": in_part,
    }  # fmt: skip
    assert "Nothing was sent." in yard.call("queued").error_sentence
    assert "may have run in part" in yard.call("report").error_sentence


def test_while_an_organization_is_suspended_nothing_runs_and_nothing_is_lost(yard: Yard, rival: House) -> None:
    yard.begin()
    suspend(yard)
    before, states = len(yard.shop.server.requests), dict(Call.objects.values_list("tool_name", "state"))
    yard.go_on()
    assert len(yard.shop.server.requests) == before
    assert dict(Call.objects.values_list("tool_name", "state")) == states
    refused = yard.shop.call("queued", {"text": "x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "organization_suspended")
    read = yard.shop.api.get("/v1/tools")
    assert (read.status_code, read.json()["code"]) == (403, "organization_suspended")
    page = yard.admin.get("/admin/").content.decode()
    assert "Unpaid." in page
    assert yard.admin.post(f"{yard.page(yard.shop.connection)}/check/").status_code == 403
    assert yard.shop.api.as_(rival.token()).get("/v1/tools").status_code == 200


def test_a_resumed_organization_goes_on_where_it_stood(yard: Yard) -> None:
    yard.begin()
    waits_until = yard.call("approved").waits_until
    suspend(yard)
    assert waits_until is not None
    assert life.sweep(waits_until + timedelta(hours=1)) == [], "nothing expires meanwhile"
    Tenant.objects.update(suspended_at=timezone.now() - timedelta(hours=2))
    yard.press(f"{yard.page(yard.shop.assignment.tenant)}/resume/", yard.staff)
    later = yard.call("approved").waits_until
    assert later is not None
    assert later - waits_until >= timedelta(hours=2)
    callers.principals.clear()
    assert yard.call("queued").lease_until <= timezone.now(), "a worker may take it"
    life.resume(yard.call("queued").pk)
    assert yard.call("queued").state == "succeeded"
    yard.press(f"{yard.page(yard.call('approved'))}/approve/")
    life.resume(yard.call("approved").pk)
    assert yard.call("approved").state == "succeeded"
    for job in yard.box.jobs:
        job.complete()
    polling.poll(yard.call("report").pk)
    assert yard.call("report").state == "succeeded"


def test_what_a_revoked_token_began_goes_on_if_the_admin_wants_it_so(yard: Yard) -> None:
    yard.begin()
    yard.press(f"{yard.page(yard.shop.assignment)}/tokens/{yard.token.pk}/revoke/", ends_calls_asked="1")
    life.sweep(timezone.now())
    life.resume(yard.call("queued").pk)
    yard.box.jobs[0].complete()
    polling.poll(yard.call("report").pk)
    assert (yard.call("queued").state, yard.call("report").state) == ("succeeded", "succeeded")
    assert (yard.call("approved").state, yard.call("approved").error_code) == ("failed", "asker_gone")


def test_the_approval_page_says_that_the_asker_is_gone(yard: Yard) -> None:
    yard.begin()
    call = yard.call("approved")
    assert "/approve/" in yard.admin.get(f"{yard.page(call)}/change/").content.decode()
    AccessToken.objects.update(revoked_at=timezone.now())
    page = yard.admin.get(f"{yard.page(call)}/change/").content.decode()
    assert "The token that asked for it was revoked." in page
    assert "/approve/" not in page
    refused = yard.admin.post(f"{yard.page(call)}/approve/", follow=True).content.decode()
    assert "Nothing was sent. The token that asked for it was revoked." in refused
    assert yard.call("approved").state == "failed"


# --- what a process has in hand --------------------------------------------------------------------------------------


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def patient(open_shop: OpenShop, gate: threading.Event, acme: House, superuser: User, signed_in: SignedIn) -> Yard:
    async def wait(_: dict[str, Any], __: Any) -> Result:
        await asyncio.to_thread(gate.wait, 30)
        return text("late")

    box = TaskBox()
    box.add("wait", wait, input_schema=schema())
    return Yard(open_shop(box), box, signed_in(acme.admin), signed_in(superuser))


AT_ONCE = {how: (end, code) for how, (end, code, _) in ENDINGS.items() if how not in {
    "the token expires", "the tools are set aside",
}} | {"the organization is suspended": (suspend, "organization_suspended")}  # fmt: skip


@pytest.mark.parametrize("how", AT_ONCE)
def test_a_call_under_way_is_interrupted_and_its_caller_told(patient: Yard, gate: threading.Event, how: str) -> None:
    end, code = AT_ONCE[how]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(patient.shop.call, "wait", headers={"Prefer": "wait=25"})
        eventually(lambda: patient.box.executions["wait"], "the tool runs")
        end(patient)
        told = answer.result(20)
    assert not gate.is_set(), "nobody waited for the tool"
    assert told.status_code in {401, 403, 409}
    if how == "the organization is suspended":
        assert (told.status_code, told.json()["code"]) == (403, code)
    call = eventually(lambda: Call.objects.filter(finished_at__isnull=False).first(), "the end")
    assert (call.state, call.error_code) == ("cancelled", code)


def test_a_call_under_way_goes_on_when_only_a_review_is_due(patient: Yard, gate: threading.Event) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(patient.shop.call, "wait", headers={"Prefer": "wait=25"})
        eventually(lambda: patient.box.executions["wait"], "the tool runs")
        change_the_tools(patient)
        call = Call.objects.get()
        assert ending.of(call) is not None
        assert ending.to_interrupt([call.pk], timezone.now()) == {}
        gate.set()
        assert answer.result(20).json()["content"][0]["text"] == "late"


@pytest.mark.parametrize("spared", [False, True], ids=["its calls end", "its calls go on"])
@pytest.mark.parametrize("door", ["the call itself", "a long poll", "a stream"])
def test_who_waits_by_a_revoked_token_hears_nothing_more(
    patient: Yard, gate: threading.Event, door: str, spared: bool
) -> None:
    shop = patient.shop
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shop.call, "wait", headers={"Prefer": "wait=25" if door == "the call itself" else "wait=0"})
        call = eventually(Call.objects.first, "the call")
        waiting = first
        if door == "a long poll":
            waiting = pool.submit(shop.api.get, f"/v1/calls/{call.pk}", headers={"Prefer": "wait=25"})
        elif door == "a stream":
            waiting = pool.submit(shop.api.get, f"/v1/calls/{call.pk}/events")
        eventually(lambda: patient.box.executions["wait"], "the tool runs")
        revoked = {"ends_calls_asked": "1"} if spared else {}
        patient.press(f"{patient.page(shop.assignment)}/tokens/{patient.token.pk}/revoke/", **revoked)
        answer = waiting.result(20)
        assert not gate.is_set(), "nobody waited for the tool"
        assert "late" not in answer.text
        if door != "a stream" and spared:
            assert answer.status_code == 401
        if spared:
            gate.set()  # or else the call is ended while the tool still runs
        call = eventually(lambda: Call.objects.filter(finished_at__isnull=False).first(), "the end")
        gate.set()
        first.result(20)
    call.refresh_from_db()
    assert call.state == ("succeeded" if spared else "cancelled"), "also once the tool has answered"


def test_a_call_is_written_down_with_its_token(yard: Yard) -> None:
    yard.shop.call("queued", {"text": "x"}, headers={"Idempotency-Key": "k"})
    yard.shop.call("queued", {"text": "x"})
    assert set(Call.objects.values_list("token", flat=True)) == {yard.token.pk}


def test_the_calls_of_others_go_on(yard: Yard, acme: House) -> None:
    other = Assignment.objects.create(tenant=acme.tenant, name="Other", owner=acme.admin)
    yard.begin()
    answer = yard.shop.api.as_(acme.token(other)).call(
        "orders__queued", {"text": "y"}, headers={"Prefer": "respond-async"}
    )
    revoke(yard)
    life.sweep(timezone.now())
    life.resume(answer.json()["id"])
    assert Call.objects.get(pk=answer.json()["id"]).state == "succeeded"

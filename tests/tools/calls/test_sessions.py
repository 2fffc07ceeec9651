"""Sessions at a server that remembers: whose they are, that all processes share them, and how they end."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.db import OperationalError
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections.models import Connection
from tests.conftest import House
from tests.live import Api
from tests.processes import StartWeb, StartWorker
from tests.servers import kinds
from tests.servers.remembering import RememberingBox
from tests.tools.conftest import OpenShop, Shop, eventually
from tools.calls import ledger, life
from tools.calls.sessions import ending, of_call, opening
from tools.mcp_client import sessions as in_process
from tools.models import Assignment, Call, McpSession
from tools.models.call_states import CallState
from tools.models.sessions import SessionEnd

ASYNC = {"Prefer": "respond-async"}


def put(api: Api, thing: str, name: str | None = None, **headers: str) -> str:
    """Put a thing into the cart and return what is in it then."""
    return said(api.call("orders__put", {"thing": thing}, headers=headers | named(name)))


def named(name: str | None) -> dict[str, str]:
    return {} if name is None else {"Duvo-Session": name}


def said(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["content"][0]["text"])


def ended(api: Api, call_id: str) -> dict[str, Any]:
    for _ in range(4):
        body: dict[str, Any] = api.get(f"/v1/calls/{call_id}", headers={"Prefer": "wait=20"}).json()
        if body["finished_at"]:
            break
    return body


def deleted(shop: Shop) -> list[str]:
    """The sessions of which the server was told that they are over, those of checks included."""
    return [request.headers["mcp-session-id"] for request in shop.server.requests if request.method == "DELETE"]


def used(shop: Shop) -> list[str]:
    """The session of each call, in the order in which they arrived."""
    return [one.headers["mcp-session-id"] for one in shop.server.requests if one.rpc_method == "tools/call"]


def told(shop: Shop, session: str) -> None:
    """The server is told that a session is over, by what beat starts."""
    for session_id in ending.due(timezone.now()):
        ending.tell(session_id)
    assert session in deleted(shop)


# --- whose a session is ---


def test_assignments_and_names_never_see_what_the_server_remembers_of_another(
    cart: Shop, acme: House, rival: House, probed: Any
) -> None:
    other = cart.api.as_(acme.token(acme.assignment("Weekly orders")))
    theirs = rival.connection("Orders", cart.server.url)
    assert probed(theirs).outcome == "passed"
    members = Assignment.objects.create(tenant=acme.tenant, name="Of a member", owner=acme.member)
    owners: list[tuple[Api, str | None]] = [
        (cart.api, None), (cart.api, "job-1"), (cart.api, "JOB-1"), (other, None), (other, "job-1"),
        (cart.api.as_(rival.token(rival.assignment())), None), (cart.api.as_(acme.token(members)), "job-1"),
    ]  # fmt: skip
    for turn, (number, (api, name)) in itertools.product("abc", enumerate(owners)):
        put(api, f"{number}{turn}", name)
    for number, (api, name) in enumerate(owners):
        assert put(api, "last", name) == f"{number}a, {number}b, {number}c, last"
    assert len(set(used(cart))) == len(owners)


def test_a_check_uses_no_session_of_a_program_and_leaves_none_behind(cart: Shop, probed: Any) -> None:
    put(cart.api, "x")
    probed(cart.connection)
    checks = {one.headers["mcp-session-id"] for one in cart.server.requests if one.rpc_method == "tools/list"}
    assert checks
    assert not checks & set(used(cart))
    eventually(lambda: checks <= set(deleted(cart)), "the sessions of checks are ended")


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 129, "tab\there"])
def test_a_name_is_visible_ascii(cart: Shop, name: str) -> None:
    headers = {"Duvo-Session": name.encode("latin-1")}
    answer = cart.api.call("orders__cart", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "session_name_invalid")
    assert not Call.objects.exists()


@pytest.mark.parametrize("name", ["!", "x" * 128, "a/b?c#d%20", "~", '"quoted"', "../up"])
def test_every_visible_name_can_be_used_listed_and_ended(cart: Shop, name: str) -> None:
    put(cart.api, "x", name)
    (session,) = cart.api.get("/v1/sessions").json()["results"]
    assert session["name"] == name
    quoted = httpx2.URL("http://x/", params={"q": name}).raw_path.partition(b"=")[2].decode().replace("+", "%20")
    assert cart.api.request("DELETE", f"/v1/sessions/{quoted}").status_code == 204
    assert used(cart)[-1] in deleted(cart)


@pytest.mark.parametrize("kind", ["modern", "legacy stateless"])
def test_a_server_that_keeps_no_sessions_costs_no_row(open_shop: OpenShop, kind: str) -> None:
    shop = open_shop(kind=kind)
    for name in (None, "job-1", "job-2"):
        answer = shop.api.call("orders__echo", {"text": "x"}, headers=named(name))
        assert said(answer) == "x"
        assert (answer.json()["session"] or {}).get("restarted") is not True
    assert not McpSession.objects.exists()
    assert cart_count(shop, "initialize") <= 2 if kind != "modern" else cart_count(shop, "initialize") == 0


def cart_count(shop: Shop, method: str) -> int:
    return shop.server.count(method)


# --- all processes share it ---


def test_a_hundred_calls_over_two_web_processes_and_two_workers_open_one_session(
    cart: Shop, start_web: StartWeb, start_worker: StartWorker
) -> None:
    webs = [Api(start_web().base, cart.api.token) for _ in range(2)]
    start_worker()
    start_worker()
    before = cart.server.count("initialize")

    def one(number: int) -> dict[str, Any]:
        api, queued = webs[number % 2], number % 3 == 0
        answer = api.call("orders__put", {"thing": str(number)}, headers=ASYNC if queued else {})
        assert answer.status_code in (200, 202), answer.text
        return ended(api, answer.json()["id"])

    with ThreadPoolExecutor(20) as pool:
        calls = list(pool.map(one, range(100)))
    assert {call["state"] for call in calls} == {"succeeded"}
    assert not any((call["session"] or {}).get("restarted") for call in calls)
    assert cart.server.count("initialize") == before + 1
    assert len(set(used(cart))) == 1
    assert sorted(put(cart.api, "last").split(", ")[:-1]) == sorted(map(str, range(100)))
    (row,) = McpSession.objects.all()
    eventually(lambda: McpSession.objects.get().calls == 101, "the calls are counted")
    assert row.name == ""
    assert used(cart)[0] not in row.sealed_session


def test_a_session_outlives_each_process(cart: Shop, start_web: StartWeb) -> None:
    first, second = start_web(), start_web()
    assert put(Api(first.base, cart.api.token), "a") == "a"
    first.kill()
    assert put(Api(second.base, cart.api.token), "b") == "a, b"
    third = start_web()
    second.kill()
    assert put(Api(third.base, cart.api.token), "c") == "a, b, c"
    assert len(set(used(cart))) == 1


def streams(shop: Shop) -> int:
    return sum(one.method == "GET" for one in shop.server.requests if one.headers.get("mcp-session-id") in used(shop))


def test_approved_and_queued_calls_run_in_the_session_that_they_name(cart: Shop, start_worker: StartWorker) -> None:
    start_worker()
    assert put(cart.api, "a", "job-1") == "a"
    answer = cart.api.call("orders__put", {"thing": "b"}, headers=ASYNC | named("job-1"))
    body = ended(cart.api, answer.json()["id"])
    assert body["content"][0]["text"] == "a, b"
    assert body["session"] == {"name": "job-1", "restarted": False}


def test_a_key_is_of_one_session(cart: Shop) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert put(cart.api, "a", "job-1", **headers) == put(cart.api, "a", "job-1", **headers) == "a"
    answer = cart.api.call("orders__put", {"thing": "a"}, headers=headers | named("job-2"))
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


# --- the server has forgotten it ---


@pytest.mark.parametrize("status", [404, 400, 401])
def test_the_assignments_own_session_is_replaced_and_the_answer_says_so(
    cart: Shop, box: RememberingBox, status: int
) -> None:
    put(cart.api, "a")
    restart(cart, status)
    answer = cart.api.call("orders__put", {"thing": "b"})
    assert said(answer) == "b"
    assert answer.json()["session"] == {"restarted": True}
    assert cart.api.get(f"/v1/calls/{answer.json()['id']}").json()["session"] == {"restarted": True}
    assert cart.api.call("orders__put", {"thing": "c"}).json()["session"] is None
    assert box.executions["put"] == 3


@pytest.mark.parametrize("status", [404, 400, 401])
def test_a_call_in_a_named_session_fails_and_the_next_opens_a_new_one(
    cart: Shop, box: RememberingBox, status: int
) -> None:
    put(cart.api, "a", "job-1")
    restart(cart, status)
    lost = cart.api.call("orders__put", {"thing": "b"}, headers=named("job-1"))
    assert (lost.status_code, lost.json()["code"]) == (409, "session_lost")
    assert "Nothing has run" in lost.json()["detail"]
    assert box.executions["put"] == 1
    answer = cart.api.call("orders__put", {"thing": "c"}, headers=named("job-1"))
    assert said(answer) == "c"
    assert answer.json()["session"] == {"name": "job-1", "restarted": False}


@pytest.mark.parametrize("status", [404, 400, 401])
def test_a_session_is_given_up_with_delete_unless_the_server_said_404(cart: Shop, status: int) -> None:
    put(cart.api, "a")
    restart(cart, status)
    assert put(cart.api, "b") == "b"
    for session_id in ending.due(timezone.now()):
        ending.tell(session_id)
    assert (used(cart)[0] in deleted(cart)) == (status != 404)


def refuse(shop: Shop, status: int, *methods: str, tool: str | None = None) -> None:
    """Have the server refuse these methods, of calls only those of one tool if one is named."""
    refuses = kinds.answers(status)

    async def refused(server: Any, request: Any, receive: Any, send: Any) -> bool:
        if request.rpc_method not in methods or tool not in (None, request.message.get("params", {}).get("name")):
            return False
        return bool(await refuses(server, request, receive, send))

    shop.server.rules.insert(0, refused)


@pytest.mark.parametrize("status", [400, 401, 403, 405])
def test_the_refusal_of_one_request_is_no_lost_session(cart: Shop, status: int) -> None:
    put(cart.api, "a")
    put(cart.api, "j", "job")
    sessions = set(used(cart))
    refuse(cart, status, "tools/call", tool="cart")
    for name in (None, "job"):
        refused = cart.api.call("orders__cart", headers=named(name))
        assert refused.status_code >= 400
        assert refused.json()["code"] not in {"session_lost", "outcome_unknown"}
    del cart.server.rules[0]
    assert put(cart.api, "b") == "a, b"
    assert put(cart.api, "k", "job") == "j, k"
    eventually(lambda: set(cart.server.sessions) - sessions <= set(deleted(cart)), "what was opened to see is ended")
    assert not sessions & set(deleted(cart))


def test_a_credential_that_is_refused_behind_an_open_handshake_loses_no_session(cart: Shop) -> None:
    put(cart.api, "a", "job")
    refuse(cart, 401, "tools/call", "ping")
    before = set(cart.server.sessions)
    refused = cart.api.call("orders__put", {"thing": "b"}, headers=named("job"))
    assert refused.json()["code"] != "session_lost"
    del cart.server.rules[0]
    assert put(cart.api, "c", "job") == "a, c"
    eventually(lambda: set(cart.server.sessions) - before <= set(deleted(cart)), "what was opened to see is ended")


LOST = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}'


def restart(shop: Shop, status: int, words: bytes = LOST) -> None:
    """Have the server forget all its sessions, and say so with this status."""
    gone = set(shop.server.sessions)
    refuses = kinds.answers(status, words)

    async def forgotten(server: Any, request: Any, receive: Any, send: Any) -> bool:
        if request.headers.get("mcp-session-id") not in gone:
            return False
        return bool(await refuses(server, request, receive, send))

    shop.server.rules.insert(0, forgotten)


# --- its end ---


def test_an_idle_session_is_ended_at_the_server_and_the_program_gets_to_know(cart: Shop) -> None:
    put(cart.api, "a")
    put(cart.api, "b", "job-1")
    McpSession.objects.filter(name="").update(idle_until=timezone.now() - timedelta(seconds=1))
    assert ending.sweep(timezone.now()) == 1
    told(cart, used(cart)[0])
    assert [one["name"] for one in cart.api.get("/v1/sessions").json()["results"]] == ["job-1"]
    answer = cart.api.call("orders__put", {"thing": "c"})
    assert said(answer) == "c"
    assert answer.json()["session"] == {"restarted": True}
    assert put(cart.api, "d", "job-1") == "b, d"


def test_a_session_in_which_a_call_is_under_way_is_not_idle(cart: Shop, settings: Any) -> None:
    cart.set(session_idle_minutes=1)
    put(cart.api, "a")
    McpSession.objects.update(idle_until=timezone.now() + timedelta(seconds=1))
    answer = cart.api.call("orders__linger", {"thing": "b", "seconds": 3})
    assert said(answer) == "a, b"
    assert McpSession.objects.get().idle_until > timezone.now() + timedelta(seconds=40)


def test_the_program_ends_its_sessions(cart: Shop) -> None:
    put(cart.api, "a")
    put(cart.api, "b", "job-1")
    own, job = used(cart)
    assert cart.api.request("DELETE", "/v1/sessions/job-1").status_code == 204
    assert deleted(cart)[-1:] == [job]
    assert cart.api.request("DELETE", "/v1/sessions/job-1").status_code == 404
    answer = cart.api.call("orders__put", {"thing": "c"}, headers=named("job-1"))
    assert (said(answer), answer.json()["session"]) == ("c", {"name": "job-1", "restarted": False})
    assert put(cart.api, "d") == "a, d"
    assert cart.api.request("DELETE", "/v1/sessions").status_code == 204
    assert deleted(cart)[-1:] == [own]
    assert put(cart.api, "e") == "e"


def test_nobody_sees_or_ends_the_session_of_another(cart: Shop, acme: House, rival: House) -> None:
    put(cart.api, "a", "job-1")
    for other in (acme.token(acme.assignment("Other")), rival.token()):
        api = cart.api.as_(other)
        assert api.get("/v1/sessions").json()["results"] == []
        assert api.request("DELETE", "/v1/sessions/job-1").status_code == 404
    assert cart.api.as_(acme.member_token(acme.admin)).get("/v1/sessions").status_code == 403
    assert put(cart.api, "b", "job-1") == "a, b"


def disable_assignment(shop: Shop) -> None:
    Assignment.objects.filter(pk=shop.assignment.pk).update(enabled=False)


def delete_assignment(shop: Shop) -> None:
    shop.assignment.delete()


def change_connection(shop: Shop) -> None:
    Connection.objects.filter(pk=shop.connection.pk).update(revision=shop.connection.revision + 1)


def delete_connection(shop: Shop) -> None:
    shop.connection.delete()


@pytest.mark.parametrize("change", [disable_assignment, delete_assignment, change_connection, delete_connection])
def test_what_ends_a_session_is_told_to_the_server(cart: Shop, change: Any) -> None:
    put(cart.api, "a")
    change(cart)
    ending.sweep(timezone.now())
    told(cart, used(cart)[0])
    ending.sweep(timezone.now())
    assert not McpSession.objects.exclude(sealed_session="").exists()


def test_to_the_server_of_a_disabled_connection_nothing_is_sent(cart: Shop) -> None:
    put(cart.api, "a")
    eventually(lambda: streams(cart) == 1, "the stream is open")
    Connection.objects.get(pk=cart.connection.pk).set_enabled(False)
    before = len(cart.server.requests)
    ending.sweep(timezone.now())
    for session_id in ending.due(timezone.now()):
        ending.tell(session_id)
    assert McpSession.objects.get().sealed_session == ""
    assert len(cart.server.requests) == before


def test_the_sessions_of_a_suspended_organization_wait(cart: Shop, acme: House) -> None:
    put(cart.api, "a")
    acme.tenant.suspended_at = timezone.now()
    acme.tenant.save()
    McpSession.objects.update(idle_until=timezone.now() - timedelta(hours=1))
    assert ending.sweep(timezone.now()) == 0
    acme.tenant.suspended_at = None
    acme.tenant.save()
    assert ending.sweep(timezone.now()) == 1
    told(cart, used(cart)[0])


def test_a_server_that_does_not_answer_is_told_three_times(cart: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cart.api, "a")
    monkeypatch.setattr(in_process, "COURTESY_TIMEOUT", 1.0)
    cart.server.rules.insert(0, kinds.hangs)
    ending.end(McpSession.objects.all(), SessionEnd.ADMIN)
    for _ in range(2):
        McpSession.objects.update(due_at=timezone.now())
        for session_id in ending.due(timezone.now()):
            ending.tell(session_id)
    assert deleted(cart).count(used(cart)[0]) == 3
    assert McpSession.objects.get().sealed_session == ""


def test_who_ends_many_sessions_does_not_wait_for_every_slow_server(
    cart: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        put(cart.api, "x", name)
    monkeypatch.setattr(in_process, "COURTESY_TIMEOUT", 1.0)
    monkeypatch.setattr(ending, "PATIENCE", 0.5)
    cart.server.rules.insert(0, kinds.hangs)
    assert ending.end(McpSession.objects.all(), SessionEnd.PROGRAM) == 3
    assert len(set(deleted(cart)) & set(used(cart))) == 1
    del cart.server.rules[0]
    for session_id in ending.due(timezone.now()):
        ending.tell(session_id)
    assert len(set(deleted(cart)) & set(used(cart))) == 3


def test_a_database_that_goes_away_with_the_session_leaves_nothing_unknown(
    cart: Shop, box: RememberingBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OperationalError("gone")

    put(cart.api, "a")
    restart(cart, 404)
    monkeypatch.setattr(of_call, "_forget", away)
    answer = cart.api.call("orders__put", {"thing": "b"})
    assert (answer.status_code, answer.json()["code"]) == (503, "session_unavailable")
    assert box.executions["put"] == 1


def test_a_database_that_goes_away_before_a_queued_call_is_sent_leaves_nothing_unknown(
    cart: Shop, box: RememberingBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ledger.write

    async def away(row: ledger.rows.Row) -> bool:
        if isinstance(row, ledger.Sending):
            raise ledger.LedgerUnavailable
        return await write(row)

    call = cart.api.call("orders__put", {"thing": "a"}, headers=ASYNC).json()["id"]
    with monkeypatch.context() as gone:
        gone.setattr(ledger, "write", away)
        life.resume(call)
    assert (cart.row.state, cart.row.sent_at, box.executions["put"]) == ("running", None, 0)
    Call.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    life.sweep(timezone.now())
    life.resume(call)
    assert (cart.row.state, box.executions["put"]) == ("succeeded", 1)


# --- how many there may be ---


def test_the_oldest_idle_session_makes_room(cart: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MOST", 3)
    for name in ("a", "b", "c"):
        put(cart.api, name, name)
    full = cart.api.call("orders__cart", headers=named("d"))
    assert (full.status_code, full.json()["code"]) == (429, "too_many_sessions")
    McpSession.objects.filter(name__in="ab").update(used_at=timezone.now() - timedelta(minutes=1))
    McpSession.objects.filter(name="b").update(used_at=timezone.now() - timedelta(minutes=2))
    assert put(cart.api, "d", "d") == "d"
    told(cart, used(cart)[1])
    assert set(McpSession.objects.live().values_list("name", flat=True)) == {"a", "c", "d"}


def test_an_organization_has_so_many_and_takes_none_of_another_assignment(cart: Shop, acme: House) -> None:
    acme.tenant.max_sessions = 1
    acme.tenant.save()
    put(cart.api, "a")
    other = cart.api.as_(acme.token(acme.assignment("Other")))
    McpSession.objects.update(used_at=timezone.now() - timedelta(minutes=5))
    assert other.call("orders__cart").status_code == 429
    assert put(cart.api, "b") == "a, b"


# --- one at a time ---


@pytest.fixture
def one_at_a_time(cart: Shop) -> Shop:
    cart.set(session_calls="one_at_a_time")
    return cart


def test_calls_of_one_session_run_one_after_the_other_over_all_processes(
    one_at_a_time: Shop, box: RememberingBox, start_web: StartWeb, start_worker: StartWorker
) -> None:
    webs = [Api(start_web().base, one_at_a_time.api.token) for _ in range(2)]
    start_worker()

    def one(number: int) -> str:
        headers = ASYNC if number % 3 == 2 else {}
        thing = {"thing": str(number), "seconds": 0.2}
        answer = webs[number % 2].call("orders__linger", thing, headers=headers)
        return str(ended(webs[0], answer.json()["id"])["state"])

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(one, range(12))) == {"succeeded"}
    assert box.at_once == 1
    by_age = [str(call.arguments()["thing"]) for call in Call.objects.order_by("pk")]
    late = [abs(by_age.index(thing) - place) for place, thing in enumerate(box.order)]
    assert max(late) <= 4, "those that came first go first"


def test_a_call_of_a_dead_process_holds_up_nobody(one_at_a_time: Shop) -> None:
    put(one_at_a_time.api, "a")
    left = one_at_a_time.row
    left.pk, left.state, left.finished_at, left.sealed_result = uuid7(), CallState.RUNNING, None, ""
    left.lease_until = timezone.now() - timedelta(seconds=1)
    left.save(force_insert=True)
    assert put(one_at_a_time.api, "b") == "a, b"


def test_sessions_of_two_names_run_side_by_side(one_at_a_time: Shop, box: RememberingBox) -> None:
    both = ["a", "b"]
    with ThreadPoolExecutor(2) as pool:
        for name in both:
            put(one_at_a_time.api, "first", name)
        list(pool.map(lambda name: linger(one_at_a_time.api, name, 1.0, name), both))
    assert box.at_once == 1
    spans = [(call.started_at, call.finished_at) for call in Call.objects.filter(tool_name="orders__linger")]
    assert max(begun for begun, _ in spans) < min(end for _, end in spans)


def linger(api: Api, thing: str, seconds: float, name: str | None = None, **headers: str) -> httpx2.Response:
    return api.call("orders__linger", {"thing": thing, "seconds": seconds}, headers=headers | named(name))


def test_waiting_for_the_turn_counts_and_can_be_cancelled(one_at_a_time: Shop, box: RememberingBox) -> None:
    shop = one_at_a_time
    shop.set_tool("put", call_timeout=2)
    first = linger(shop.api, "a", 6, Prefer="wait=0").json()["id"]
    eventually(lambda: box.order == ["a"], "the first call runs")
    waits = linger(shop.api, "b", 1, Prefer="wait=0").json()["id"]
    busy = shop.api.call("orders__put", {"thing": "c"})
    assert (busy.status_code, busy.json()["code"]) == (409, "session_busy")
    assert shop.api.post(f"/v1/calls/{waits}/cancel").json()["state"] == "cancelled"
    assert ended(shop.api, first)["state"] == "succeeded"
    assert put(shop.api, "d") == "a, d"
    assert box.order == ["a"]

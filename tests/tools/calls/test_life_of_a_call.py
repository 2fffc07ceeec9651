"""What becomes of a call: its answer, its row, and what the server saw, over real sockets all the way."""

from __future__ import annotations

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import OperationalError
from django.db import connection as database
from django.db import connections as databases

from tests.servers import kinds
from tests.servers.running import Rule
from tests.servers.toolbox import PIXEL, Toolbox, echo, furnished, text
from tests.tools.conftest import OpenShop, Shop, eventually
from tools.calls.ledger import postgresql, writing
from tools.models import Call

SECRET = "secret detail"


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"a": value}
    return value


# --- results --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "content", "structured"),
    [
        ("echo", {"text": "grüße 🎈 \u2028"}, [{"type": "text", "text": "grüße 🎈 \u2028"}], None),
        ("add", {"a": 2, "b": 3}, [{"type": "text", "text": "5"}], {"total": 5}),
        ("picture", {}, [{"type": "image", "data": PIXEL, "mimeType": "image/png"}], None),
        ("route", {"region": "eu"}, [{"type": "text", "text": "eu"}], {"region": "eu"}),
    ],
)
def test_a_result_arrives_as_the_tool_gave_it(
    shop: Shop, tool: str, arguments: dict[str, Any], content: Any, structured: Any
) -> None:
    answer = shop.call(tool, arguments)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["state"], body["is_error"], body["error"]) == ("succeeded", False, None)
    assert (body["content"], body["structured_content"]) == (content, structured)
    assert shop.row.result() == {"is_error": False, "content": content, "structured_content": structured}
    assert shop.row.arguments() == arguments
    assert shop.api.get(f"/v1/calls/{body['id']}").json() == body


@pytest.mark.parametrize("structured", [{"a": {"": [None, 1.5, "\x00"]}}, [1, 2], "words", 0, False])
def test_members_and_values_that_nobody_knows_pass_unchanged(shop: Shop, structured: Any) -> None:
    block = {"type": "hologram", "depth": {"x": [1, None]}, "_meta": {"vendor/x": True}}
    shop.answers(kinds.says({"resultType": "complete", "content": [block], "structuredContent": structured}))
    body = shop.call("echo", {"text": "x"}).json()
    assert (body["content"], body["structured_content"]) == ([block], structured)
    assert shop.api.get(f"/v1/calls/{body['id']}").json() == body


def test_an_error_of_the_tool_itself_is_a_result(shop: Shop) -> None:
    answer = shop.call("fail")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["state"], body["is_error"]) == ("failed", True)
    assert body["content"] == [{"type": "text", "text": "No such order."}]
    assert (shop.row.state, shop.row.error_code) == ("failed", "tool_error")
    assert shop.api.get(f"/v1/calls/{body['id']}").json() == body


def test_a_result_nested_deeply_is_stored_or_refused_but_never_lost(shop: Shop) -> None:
    result = {"resultType": "complete", "content": [], "structuredContent": nested(400)}
    shop.answers(kinds.says(result))
    answer = shop.call("echo", {"text": "x"})
    assert answer.status_code in {200, 502}, answer.text
    assert shop.row.finished
    assert shop.api.get(f"/v1/calls/{shop.row.pk}").status_code == 200


# --- failures of the server -----------------------------------------------------------------------------------------

FAILURES = [
    (kinds.answers(401, SECRET.encode()), 502, "upstream_unauthorized", "failed", None),
    (kinds.forbids, 502, "insufficient_scope", "failed", None),
    (kinds.answers(404, SECRET.encode()), 502, "upstream_unexpected_status", "failed", None),
    (kinds.answers(429, SECRET.encode(), retry_after="3"), 502, "upstream_rate_limited", "failed", "3"),
    (kinds.answers(500, SECRET.encode()), 502, "upstream_server_failed", "failed", None),
    (kinds.answers(503, SECRET.encode(), retry_after="7"), 502, "upstream_server_failed", "failed", "7"),
    (kinds.answers(504, SECRET.encode()), 502, "outcome_unknown", "outcome_unknown", None),
    (kinds.answers(307, location="https://elsewhere.example/"), 502, "upstream_redirected", "failed", None),
    (kinds.drops, 502, "outcome_unknown", "outcome_unknown", None),
    (kinds.floods, 502, "outcome_unknown", "outcome_unknown", None),
    (kinds.answers(200, b'{"jsonrpc": "2.0", "id": 1, "result": {'), 502, "answer_unusable", "failed", None),
    (kinds.answers(200, b"<p>", content_type="text/html"), 502, "outcome_unknown", "outcome_unknown", None),
    (kinds.says({"resultType": "input_required"}), 502, "upstream_needs_more", "failed", None),
    (kinds.says(error={"code": -32603, "message": SECRET}), 502, "upstream_rpc_error", "failed", None),
]


@pytest.mark.parametrize(("rule", "status", "code", "state", "retry_after"), FAILURES)
def test_a_failing_server_becomes_a_problem_and_the_row_says_the_same(
    shop: Shop, rule: Rule, status: int, code: str, state: str, retry_after: str | None
) -> None:
    shop.answers(rule)
    answer = shop.call("echo", {"text": "x"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get("retry-after") == retry_after
    assert SECRET not in str({name: problem[name] for name in problem if name != "server_message"})
    row = shop.row
    assert SECRET not in row.error_sentence
    assert (row.state, row.error_code, str(row.pk)) == (state, code, problem["call"])
    assert row.finished_at is not None
    assert row.lease_until is None
    later = shop.api.get(f"/v1/calls/{row.pk}")
    assert (later.status_code, later.json()["state"]) == (200, state)
    assert later.json()["error"]["code"] == code
    assert shop.server.count("tools/call") == 1


def test_a_server_that_hangs_is_left_when_its_time_is_over(shop: Shop) -> None:
    shop.set(call_timeout=1)
    shop.answers(kinds.hangs)
    began = time.monotonic()
    answer = shop.call("echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (504, "timed_out")
    assert time.monotonic() - began < 5
    assert (shop.row.state, shop.row.error_code) == ("timed_out", "timed_out")


def test_where_nobody_listens_the_call_fails_and_nothing_was_sent(shop: Shop) -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        shop.set(server_url=f"http://127.0.0.1:{taken.getsockname()[1]}/mcp")
        answer = shop.call("echo", {"text": "x"})
    assert answer.status_code == 502
    assert (shop.row.state, shop.row.error_code) == ("failed", answer.json()["code"])
    assert shop.row.error_code not in {"", "outcome_unknown"}


def test_an_address_that_is_closed_to_us_is_refused_at_the_call_too(shop: Shop, settings: Any) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = []
    shop.set(server_url="https://127.0.0.1/mcp")
    answer = shop.call("echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (502, "private_address")
    assert shop.row.state == "failed"


# --- before the first byte ------------------------------------------------------------------------------------------


def test_the_row_is_committed_before_the_server_hears_of_the_call(open_shop: OpenShop) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.extend(Call.objects.values_list("state", flat=True))
        databases.close_all()

    async def looks(_: dict[str, Any], __: Any) -> Any:
        await sync_to_async(look, thread_sensitive=False)()
        return text("looked")

    box = furnished()
    box.add("look", looks)
    assert open_shop(box).call("look", {"text": "x"}).json()["state"] == "succeeded"
    assert seen == ["running"]


@pytest.mark.parametrize("prefer", ["wait=30", "wait=0", "respond-async"])
def test_a_call_that_cannot_be_written_down_is_not_made(shop: Shop, prefer: str) -> None:
    with database.cursor() as cursor:
        cursor.execute("ALTER TABLE tools_call RENAME TO tools_call_away")
    try:
        answer = shop.call("echo", {"text": "x"}, headers={"Prefer": prefer})
    finally:
        with database.cursor() as cursor:
            cursor.execute("ALTER TABLE tools_call_away RENAME TO tools_call")
    assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert shop.server.count("tools/call") == 0
    assert not Call.objects.exists()


@pytest.mark.parametrize("prefer", ["wait=30", "respond-async"])
def test_a_commit_whose_confirmation_is_lost_has_written_the_call_down(
    shop: Shop, prefer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = postgresql.Line if database.vendor == "postgresql" else writing._Sqlite
    commit, times = place.commit, 0

    async def hangs_up_after_it(*rows: Any) -> set[UUID]:
        nonlocal times
        written = await commit(*rows)
        times += 1
        if times == 1:
            raise OperationalError
        return written

    monkeypatch.setattr(place, "commit", hangs_up_after_it)
    answer = shop.call("echo", {"text": "x"}, headers={"Prefer": prefer})
    assert answer.status_code in {200, 202}, answer.text
    assert answer.json()["id"] == str(shop.row.pk)


@pytest.mark.parametrize(
    ("tool", "arguments", "pointers"),
    [
        ("echo", {}, {"/arguments"}),
        ("echo", {"text": 7}, {"/arguments/text"}),
        ("add", {"a": "1", "b": None}, {"/arguments/a", "/arguments/b"}),
        ("echo", {"text": "x", "more": 1}, {"/arguments"}),
    ],
)
def test_arguments_that_do_not_fit_are_named_and_nothing_is_sent(
    shop: Shop, tool: str, arguments: dict[str, Any], pointers: set[str]
) -> None:
    answer = shop.call(tool, arguments)
    assert (answer.status_code, answer.json()["code"]) == (422, "arguments_invalid")
    assert {error["pointer"] for error in answer.json()["errors"]} == pointers
    assert shop.server.count("tools/call") == 0
    assert not Call.objects.exists()


# --- waiting --------------------------------------------------------------------------------------------------------


def test_who_does_not_wait_finds_the_call_at_its_address(shop: Shop) -> None:
    answer = shop.call("slow", {"steps": 4, "pause": 0.5}, headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    assert answer.headers["preference-applied"] == "wait=0"
    path = answer.headers["location"].removeprefix(settings.PUBLIC_URL)
    assert path == f"/v1/calls/{answer.json()['id']}"
    first = shop.api.get(path)
    assert (first.status_code, first.json()["state"]) == (200, "running"), first.text
    done = eventually(lambda: (body := shop.api.get(path).json())["state"] != "running" and body, "the call's end")
    assert (done["state"], done["content"]) == ("succeeded", [{"type": "text", "text": "done"}])


def test_calls_run_side_by_side(shop: Shop) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(20) as callers:
        answers = list(callers.map(lambda _: shop.call("slow", {"steps": 10, "pause": 0.1}), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert time.monotonic() - began < 10  # one after the other they take 20 seconds
    assert Call.objects.filter(state="succeeded").count() == 20


def test_a_connection_takes_no_more_calls_at_once_than_it_may(open_shop: OpenShop) -> None:
    inside, leave = threading.Event(), threading.Event()

    async def holds(arguments: dict[str, Any], context: Any) -> Any:
        inside.set()
        await sync_to_async(leave.wait, thread_sensitive=False)(20)
        return await echo(arguments, context)

    box = Toolbox()
    box.add("hold", holds)
    shop = open_shop(box)
    shop.set(max_concurrency=1)
    with ThreadPoolExecutor(8) as callers:
        asked = [callers.submit(shop.call, "hold", {"text": "x"}) for _ in range(8)]
        assert inside.wait(20)
        eventually(lambda: sum(each.done() for each in asked) == 7, "seven refusals")
        leave.set()
    answers = [each.result() for each in asked]
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 7
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("connection_busy", "1")
    assert shop.server.executions("hold") == 1
    assert Call.objects.count() == 1
    assert shop.call("hold", {"text": "again"}).status_code == 200  # the place is free again


@pytest.mark.skipif(database.vendor != "postgresql", reason="SQLite plans by other rules.")
async def test_every_row_is_looked_up_by_its_id(shop: Shop) -> None:
    """However few the rows of the other tables are. Calls are many: of a few, reading all is as fast as looking up."""
    await sync_to_async(shop.call)("add", {"a": 2, "b": 3})
    line, write = postgresql.Line(), postgresql.statement(opens=True, ends=True, sign_ins=True)
    try:
        connected = await line._connected()
        await connected.execute("BEGIN")
        await connected.execute(
            "INSERT INTO tools_call SELECT (jsonb_populate_record(one, jsonb_build_object('id', gen_random_uuid()))).*"
            " FROM tools_call AS one, generate_series(1, 3000)"
        )
        await connected.execute("ANALYZE tools_call")  # its lock keeps autovacuum from counting, too
        explained = await connected.execute(f"EXPLAIN {write}", ("[]", [], "[]", [], [uuid4() for _ in range(20)]))
        plan = "\n".join(line for (line,) in await explained.fetchall())
        await connected.execute("ROLLBACK")
    finally:
        await line.close()
    # Token, assignment, organization, connection, tool and call; nothing else grows with the platform.
    for row in ("t", "a", "o", "c", "u", "tools_call_1"):
        assert re.search(rf"Index Scan using \w+_pkey on \w+ {row} .*\n *Index Cond: \(+id = ", plan), plan
    assert not re.search("Seq Scan on", plan), plan

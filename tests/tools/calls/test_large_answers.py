"""Large answers and large arguments are everybody's burden for a moment only, and arrive whole all the same."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import orjson
import pytest

from connections import offload
from connections.forms import ConnectionForm
from tests.conftest import House
from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import Incoming, McpServer, Receive, Send
from tests.servers.tasks import TaskBox
from tests.servers.toolbox import furnished, schema, text
from tests.tools.conftest import OpenShop, Shop, eventually
from tools import mcp_client
from tools.calls import polling
from tools.mcp_client import budget, parsing, responses
from tools.mcp_client.budget import SHARE, TOTAL, Budget
from tools.models import Call
from tools.payloads.raw_json import SMALL

MB = 1_000_000
LONG = b"," * 2 * SMALL  # a text that looks like much
Rule = Callable[[McpServer, Incoming, Receive, Send], Awaitable[bool]]


def small_objects(size: int) -> bytes:
    """JSON of so many bytes, nothing but small objects."""
    return b"[" + b",".join([b'{"a":1}'] * (size // 8)) + b"]"


def answers_with(result: bytes, *, stream: bool = False) -> Rule:
    """Answer calls with these bytes as result."""

    async def rule(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        body = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (json.dumps(request.rpc_id).encode(), result)
        if stream:
            return await kinds.respond(send, 200, b"data: %b\n\n" % body, content_type="text/event-stream")
        return await kinds.respond(send, 200, body)

    return kinds.only_on("tools/call", rule)


def heavy_result(size: int) -> bytes:
    said = b'{"content":[{"type":"text","text":"Many."}],"structuredContent":{"rows":%b},"resultType":"complete"}'
    return said % small_objects(size)


# --- nobody waits for a parser ---


class Heart:
    """Beats in a loop, and knows the longest time of CPU that its thread spent between two beats."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now

    def stop(self) -> float:
        self._task.cancel()
        return self.longest


@pytest.mark.parametrize("stream", [False, True])
async def test_the_loop_is_never_held_for_as_long_as_reading_the_answer_takes(
    mcp_server: StartServer, settings: Any, stream: bool
) -> None:
    """CPU time of this thread, so that a busy machine changes nothing: today's parse of the same bytes against it."""
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    result = heavy_result(9 * MB)
    began = time.thread_time()
    orjson.dumps(orjson.loads(result))
    inline = time.thread_time() - began
    server = mcp_server("modern")
    server.behave(kinds.only_modern, answers_with(result, stream=stream))
    known = mcp_client.Server(key="k", url=server.url, era="modern", tenant="acme")
    heart = Heart()
    said = await mcp_client.call_tool(known, "echo", {"text": "x"})
    longest = heart.stop()
    assert isinstance(said, mcp_client.ToolResult)
    assert (said.content, said.structured, said.is_error) == ([], None, False)
    assert len(said.large) > 8 * MB
    assert longest < inline / 3, f"{longest:.3f} s against {inline:.3f} s"


async def test_mending_of_half_emojis_holds_nobody_either(mcp_server: StartServer, settings: Any) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    words = b"\\n" * 800_000 + b"\\ud83d"
    server = mcp_server("modern")
    server.behave(kinds.only_modern, answers_with(b'{"content":[{"type":"text","text":"%b"}]}' % words))
    known = mcp_client.Server(key="k", url=server.url, era="modern", tenant="acme")
    heart = Heart()
    said = await mcp_client.call_tool(known, "echo", {"text": "x"})
    assert heart.stop() < 0.15, "half a second before"
    assert isinstance(said, mcp_client.ToolResult)
    assert orjson.loads(said.large)["content"][0]["text"] == "\n" * 800_000 + "\ufffd"


# --- what arrives ---


def test_a_large_result_is_linked_whole_and_looked_at_again(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.set(max_answer=10 * MB)
    shop.answers(answers_with(heavy_result(5 * MB // 2)))
    answer = shop.call("echo", {"text": "x"})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["state"], body["is_error"], body["error"]) == ("succeeded", False, None)
    assert body["content"] == [{"type": "text", "text": "Many."}]
    link = body["structured_content_link"]
    rows = shop.api.get("/v1/" + link["uri"].partition("/v1/")[2])
    assert rows.content == orjson.dumps({"rows": orjson.loads(small_objects(5 * MB // 2))})
    assert link["_meta"]["duvo/sha256"] == hashlib.sha256(rows.content).hexdigest()
    assert shop.api.get(f"/v1/calls/{body['id']}").json() == body
    assert budget.answers.taken == 0


def test_a_result_of_many_blocks_stays_as_the_server_sent_it(open_shop: OpenShop) -> None:
    """Half a megabyte that nobody reads on the way: neither when it comes nor when it is looked at again."""
    shop = open_shop()
    blocks = [{"type": "text", "text": f"“{number}”"} for number in range(12_000)]
    shop.answers(answers_with(orjson.dumps({"content": blocks, "isError": True, "structuredContent": [1, None]})))
    body = shop.call("echo", {"text": "x"}).json()
    assert (body["state"], body["is_error"]) == ("failed", True)
    assert (body["content"], body["structured_content"]) == (blocks, [1, None])
    assert body["structured_content_link"] is None
    assert shop.api.get(f"/v1/calls/{body['id']}").json() == body


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (b'{"content":5,"more":"%b"}' % LONG, "answer_unusable"),
        (b'{"content":[1,"%b"]}' % LONG, "answer_unusable"),
        (b'{"content":[{"type":"text","text":"x"}],"more":"%b"}' % (b"," * 400_000), "answer_unusable"),
        (b'{"content":[%b]}' % (b"[" * 100_000 + b"]" * 100_000), "answer_unusable"),
        (b'{"content":[{"a":"%b"}]' % LONG, "answer_unusable"),
        (b'{"resultType":"sampling","content":"%b"}' % LONG, "upstream_needs_more"),
    ],
)
def test_a_large_answer_that_breaks_the_protocol_is_told_as_a_small_one(shop: Shop, result: bytes, code: str) -> None:
    shop.answers(answers_with(result))
    answer = shop.call("echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (502, code)


def test_an_answer_that_cannot_be_read_here_has_no_known_outcome(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_READ_SECONDS", 0.01)
    shop.answers(answers_with(heavy_result(MB)))
    answer = shop.call("echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (502, "outcome_unknown")
    assert "The tool may have run" in answer.json()["detail"]
    shop.answers()
    assert shop.call("echo", {"text": "x"}).status_code == 200


def test_a_result_that_cannot_be_split_is_kept_whole(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.calls.storing._SPLIT_SECONDS", 0.01)
    shop.answers(answers_with(heavy_result(MB)))
    (link,) = shop.call("echo", {"text": "x"}).json()["content"]
    whole = shop.api.get("/v1/" + link["uri"].partition("/v1/")[2]).json()
    assert whole["structured_content"] == {"rows": orjson.loads(small_objects(MB))}


def test_the_result_of_a_task_may_be_large_too(open_shop: OpenShop) -> None:
    box = TaskBox()
    shop = open_shop(box)
    assert shop.call("report", headers={"Prefer": "wait=1"}).json()["state"] == "running"
    box.only.complete("The report.", structuredContent={"rows": orjson.loads(small_objects(MB))})
    polling.poll(shop.row.pk)
    answer = shop.api.get(f"/v1/calls/{shop.row.pk}").json()
    assert (answer["state"], answer["content"]) == ("succeeded", [{"type": "text", "text": "The report."}])
    link = answer["structured_content_link"]
    assert link["size"] == len(orjson.dumps({"rows": orjson.loads(small_objects(MB))}))
    assert budget.answers.taken == 0


# --- how much of it at a time ---


async def test_no_more_than_its_share_is_read_for_an_organization_and_others_do_not_wait() -> None:
    shared = Budget()
    most = {"acme": 0, "all": 0}
    running = {"acme": 0, "rival": 0}

    async def answer(tenant: str, size: int) -> None:
        await shared.take(tenant, size)
        running[tenant] += size
        most["acme"], most["all"] = max(most["acme"], running["acme"]), max(most["all"], sum(running.values()))
        for _ in range(3):
            await asyncio.sleep(0)
        running[tenant] -= size
        shared.give(tenant, size)

    acme = [asyncio.create_task(answer("acme", 10 * MB)) for _ in range(60)]
    await asyncio.sleep(0)
    await answer("rival", 10 * MB)
    assert sum(task.done() for task in acme) < 10, "rival's turn comes before acme's sixty"
    await asyncio.gather(*acme)
    assert most["acme"] <= SHARE
    assert most["all"] <= TOTAL
    assert shared.taken == 0


async def test_who_gives_up_waiting_or_has_enough_gives_everything_back() -> None:
    shared = Budget(total=10, share=5)
    await shared.take("acme", 5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(shared.take("acme", 1), 0.01)  # noqa: TID251 - nobody cancels this
    assert shared.taken == 5
    shared.give("acme", 5)
    await shared.take("acme", 1_000)  # more than a share is a share
    assert shared.taken == 5
    shared.give("acme", 1_000)
    assert shared.taken == 0


async def test_one_call_never_waits_for_what_it_holds_itself() -> None:
    with budget.account() as mine:
        for size in (SHARE, MB, SHARE, SHARE):
            await asyncio.wait_for(mine.hold("acme", size), 5)  # noqa: TID251 - nobody cancels this
        assert budget.answers.taken == SHARE
    assert budget.answers.taken == 0


def test_many_large_answers_at_once_all_arrive_and_none_is_kept_in_mind(shop: Shop) -> None:
    shop.set(max_answer=10 * MB)
    shop.answers(answers_with(heavy_result(MB // 5)))
    with ThreadPoolExecutor(6) as callers:
        coming = [callers.submit(shop.call, "echo", {"text": "x"}) for _ in range(6)]
        assert [one.result().status_code for one in coming] == [200] * 6
    eventually(lambda: budget.answers.taken == 0, "the budget is free again")


# --- the setting ---


def form(acme: House, largest: object) -> ConnectionForm:
    connection = acme.connection()
    data = ConnectionForm.data_of(connection) | {"max_answer": largest}
    return ConnectionForm(data, instance=connection, tenant=acme.tenant, user=acme.admin)


@pytest.mark.parametrize("largest", [0, 999, 10 * MB + 1, "much"])
@pytest.mark.usefixtures("open_egress")
def test_the_largest_answer_is_bounded(acme: House, largest: object) -> None:
    assert "max_answer" in form(acme, largest).errors
    assert form_is_taken(acme)


def form_is_taken(acme: House) -> bool:
    connection = acme.tenant.connections.get()
    data = ConnectionForm.data_of(connection) | {"max_answer": 10 * MB}
    changed = ConnectionForm(data, instance=connection, tenant=acme.tenant, user=acme.admin)
    return "max_answer" not in changed.errors


def test_an_admin_sets_the_largest_answer_over_rest(shop: Shop, acme: House) -> None:
    api = shop.api.as_(acme.member_token(acme.admin))
    address = f"/v1/connections/{shop.connection.pk}"
    assert api.request("PATCH", address, json={"max_answer": 20 * MB}).status_code == 422
    assert api.request("PATCH", address, json={"max_answer": 5_000}).status_code == 200
    shop.connection.refresh_from_db()
    assert shop.connection.max_answer == 5_000


# --- what is sent ---


def test_large_arguments_of_small_objects_arrive_and_are_kept(open_shop: OpenShop) -> None:
    seen: list[Any] = []

    async def count(arguments: dict[str, Any], _: Any) -> Any:
        seen.append(arguments)
        return text("counted")

    box = furnished()
    box.add("count", count, input_schema=schema(rows={"type": "array"}))
    shop = open_shop(box)
    rows = small_objects(MB)
    body = b'{"arguments":{"rows":%b}}' % rows
    first = shop.post(body, "count", idempotency_key="k")
    assert first.status_code == 200, first.text
    assert seen == [{"rows": orjson.loads(rows)}]
    assert Call.objects.get().arguments() == seen[0]
    again = shop.post(body.replace(b'{"a":1}', b' {"a" : 1}', 1), "count", idempotency_key="k")
    assert again.json() == first.json(), "the same arguments in other words are the same request"
    other = shop.post(body.replace(b'{"a":1}', b'{"a":2}', 1), "count", idempotency_key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        (b'{"arguments":{"text":"%b"}' % LONG, 400, "malformed", None),
        (b"[%b]" % (b"1," * SMALL + b"1"), 422, "invalid", ""),
        (b'{"arguments":{},"more~":"%b"}' % LONG, 422, "invalid", "/more~0"),
        (b'{"arguments":"%b"}' % LONG, 422, "invalid", "/arguments"),
        (b'{"arguments":{"text":%b}}' % (b"[" * SMALL + b"]" * SMALL), 400, "malformed", None),
        (b'{"arguments":{"text":"x","more":"%b"}}' % LONG, 422, "arguments_invalid", "/arguments"),
    ],
)
def test_a_large_body_is_refused_as_a_small_one_is(
    shop: Shop, body: bytes, status: int, code: str, pointer: str | None
) -> None:
    answer = shop.post(body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if pointer is not None:
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert not Call.objects.exists()


def test_large_arguments_that_a_header_repeats_are_repeated(shop: Shop) -> None:
    tool = shop.connection.tools.get(name="route")
    members = list(tool.approved_definition["inputSchema"]["properties"])
    value = {"region": "eu-west", **{name: "x" for name in members if name != "region"}}
    small = shop.call("route", value)
    large = shop.post(orjson.dumps({"arguments": value})[:-1] + b" " * 2 * MB + b"}", "route")
    assert large.status_code == small.status_code == 200
    assert large.json()["content"] == small.json()["content"]


def test_a_crowd_of_work_is_told_to_come_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "MOST_WAITING", 0)
    answer = shop.post(b'{"arguments":{"text":"%b"}}' % LONG)
    assert (answer.status_code, answer.json()["code"]) == (503, "too_much_waiting")
    assert answer.headers["retry-after"] == "1"
    assert shop.call("echo", {"text": "x"}).status_code == 200


async def test_a_large_answer_that_trickles_does_not_hold_the_budget_for_the_time_of_its_call(
    mcp_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "WHOLE_SECONDS", 1.0)

    async def trickles(_: McpServer, __: Incoming, receive: Receive, send: Send) -> bool:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1900000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b" " * 400_000, "more_body": True})
        with suppress(Exception):  # until the client hangs up
            for _ in range(200):
                await asyncio.sleep(0.1)
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
        return True

    server = mcp_server("modern")
    server.rules.insert(0, kinds.only_on("tools/call", trickles))
    patient = mcp_client.Server(key=server.url, url=server.url, era="modern", timeout=60)
    began = time.monotonic()
    with pytest.raises(mcp_client.TimedOut):
        await mcp_client.call_tool(patient, "echo", {"text": "x"})
    assert time.monotonic() - began < 15
    assert budget.answers.taken == 0

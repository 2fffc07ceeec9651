"""Whatever arrives while a tool runs is a sign of life; its log is kept for who follows the call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.servers.field.slow import ANSWER, log, says_meanwhile
from tests.servers.fixtures import StartServer
from tests.servers.kinds import only_on
from tests.servers.running import Rule
from tests.tools.api.test_call_events import events
from tests.tools.conftest import Shop
from tools import mcp_client
from tools.mcp_client import LogLine, Progress, Server
from tools.mcp_client.messages import progress_in
from tools.mcp_client.responses import MOST_LINES

PROGRESS = 'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}\n\n'
TIMES = {"times": 20, "pause": 0.2}  # 4 seconds, more than the idle timeout of 3

SIGNS: dict[str, Rule] = {
    "comments": says_meanwhile(": still here\n\n", **TIMES),
    "a ping event": says_meanwhile("event: ping\ndata: {}\n\n", **TIMES),
    "heartbeats": says_meanwhile('data: {"type":"heartbeat"}\n\n', **TIMES),
    "its log": says_meanwhile(log("working"), **TIMES),
    "progress": says_meanwhile(PROGRESS % "TOKEN", **TIMES),
    "progress with the token as text": says_meanwhile(PROGRESS % '"TOKEN"', **TIMES),
    "progress of another": says_meanwhile(PROGRESS % "99999999", **TIMES),
    "blank lines": says_meanwhile("\n", **TIMES),
    "half an event": says_meanwhile("d", "a", "t", "a", ":", "{", " ", **TIMES, end=f" \n\ndata: {ANSWER}\n\n"),
    "spaces before JSON": says_meanwhile(" ", **TIMES, kind="application/json", end=ANSWER),
}


async def test_every_byte_winds_the_idle_clock_up_again(mcp_server: StartServer) -> None:
    async def told(sign: Rule) -> Any:
        server = mcp_server("dual")
        server.behave(sign)
        patient = Server(key=server.url, url=server.url, era="modern", idle_timeout=3)
        return (await mcp_client.call_tool(patient, "echo", {})).content

    found = await asyncio.gather(*map(told, SIGNS.values()), return_exceptions=True)  # each takes its four seconds
    done = [{"type": "text", "text": "done"}]
    assert [(name, said) for name, said in zip(SIGNS, found, strict=True) if said != done] == []


async def test_signs_of_life_do_not_stop_the_absolute_clock(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(says_meanwhile(": still here\n\n", times=100, pause=0.05))
    with pytest.raises(mcp_client.TimedOut) as late:
        await mcp_client.call_tool(Server(key="k", url=server.url, era="modern", timeout=0.8), "echo", {})
    assert late.value.kind == "absolute"


async def test_silence_after_signs_of_life_runs_into_the_idle_clock(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(says_meanwhile(": hello\n\n", times=2, pause=1.5))
    with pytest.raises(mcp_client.TimedOut) as late:
        await mcp_client.call_tool(Server(key="k", url=server.url, era="modern", idle_timeout=0.5), "echo", {})
    assert late.value.kind == "idle"


LINES: list[tuple[str, LogLine | None]] = [
    (log("at work", level="debug", logger="db"), LogLine("debug", "db", "at work")),
    (log({"message": "at work"}), LogLine("info", "", "at work")),
    (log({"step": 1, "of": [2]}), LogLine("info", "", '{"step":1,"of":[2]}')),
    (log("key Bearer abcdefgh12345678"), LogLine("info", "", "key [left out]")),
    (log("my token is tok_of_acme"), LogLine("info", "", "my token is [left out]")),
    (log("x" * 9_000), LogLine("info", "", "x" * 499 + "…")),
    (log(None), None),
    ('data: {"jsonrpc":"2.0","method":"notifications/message","params":5}\n\n', None),
]


@pytest.mark.parametrize(("event", "line"), LINES)
async def test_the_log_is_told_as_it_comes(mcp_server: StartServer, event: str, line: LogLine | None) -> None:
    server = mcp_server("dual")
    server.behave(says_meanwhile(event, times=1, pause=0))
    heard: list[Progress] = []
    headers = (("Authorization", "Bearer tok_of_acme"),)
    known = Server(key=server.url, url=server.url, era="modern", headers=headers)
    await mcp_client.call_tool(known, "echo", {}, progress=heard.append)
    assert [step.line for step in heard] == ([line] if line else [])


@pytest.mark.parametrize(
    ("told", "progress"),
    [
        ({"progress": "0.5"}, Progress(0.5)),
        ({"progress": " 50 ", "total": "100"}, Progress(50, 100)),
        ({"progress": 1, "total": "many"}, Progress(1)),
        ({"progress": "half"}, None),
        ({"progress": "1e999"}, None),
        ({"progress": True}, None),
        ({"progress": "9" * 400}, None),
    ],
)
def test_progress_that_is_written_as_text_is_that(told: dict[str, Any], progress: Progress | None) -> None:
    message = {"method": "notifications/progress", "params": {"progressToken": 7, **told}}
    assert progress_in(message, 7) == progress


async def test_a_flood_of_log_lines_is_cut(mcp_server: StartServer) -> None:
    server = mcp_server("dual")
    server.behave(says_meanwhile(log("x") * 1_000, times=1, pause=0))
    heard: list[Any] = []
    known = Server(key=server.url, url=server.url, era="modern")
    assert (await mcp_client.call_tool(known, "echo", {}, progress=heard.append)).content
    assert len(heard) == MOST_LINES


def test_the_log_is_an_event_of_the_call(shop: Shop) -> None:
    shop.server.rules.append(only_on("tools/call", says_meanwhile(log("looking", logger="db"), times=5, pause=0.3)))
    call = shop.call("echo", {"text": "x"}).json()
    told = [data for _, _, data in events(shop, call["id"])]
    logged = [line for data in told for line in data.get("log", [])]
    assert {"level": "info", "logger": "db", "text": "looking"} in logged
    assert call["state"] == told[-1]["state"] == "succeeded"

"""Queued calls of one token to a server that drips, and to one that asks on the open stream what nobody answers."""

from __future__ import annotations

import asyncio

from tests.neighbours.hostile import EVENTS, Behaviour, Request, head, tool
from tests.neighbours.plan import Attack, Ground, Wanted

FIRST, THEN = 40, 160  # calls
THEN_AFTER = 8.0  # seconds
QUESTION = (
    b'event: message\ndata: {"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"Your name?",'
    b'"requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}}\n\n'
)


class _Drips(Behaviour):
    async def call(self, request: Request) -> None:
        await request.drip(head(200, kind=EVENTS), b": wait\n\n")


class _AsksOnTheStream(Behaviour):
    """A server of 2025-11-25 without sessions."""

    async def answer(self, request: Request) -> None:
        match request.rpc_method:
            case "initialize":
                about = {"protocolVersion": "2025-11-25", "serverInfo": {"name": "asking", "version": "1"}}
                await request.result({"capabilities": {"tools": {}}, **about})
            case "tools/list":
                await request.result({"tools": [tool("ask")]})
            case "tools/call":
                await request.drip(head(200, kind=EVENTS) + QUESTION, b": wait\n\n")
            case "server/discover":
                await request.nothing(404)
            case _:
                await request.nothing(202 if request.http_method == "POST" else 405)


async def _run(ground: Ground) -> None:
    async def queue(tool_name: str, number: int, after: float) -> None:
        await asyncio.sleep(after)
        async with ground.visitor("queued call", ground.keys.rival_token) as caller:
            for _ in range(number):
                await caller.call(tool_name, {}, Prefer="respond-async")

    await ground.all_of(
        queue("dripping__ask", FIRST, 0),
        queue("dripping__ask", THEN // 2, THEN_AFTER),
        queue("asking__ask", THEN // 2, THEN_AFTER),
        asyncio.sleep(3600),  # until somebody ends it
    )


ATTACK = Attack(
    name="slow-calls",
    number=11,
    sentence=f"{FIRST} and then {FIRST + THEN} queued calls of one token that drip, or wait for an answer",
    run=_run,
    wanted=(
        Wanted("dripping", "drips", settings={"call_timeout": 3600, "idle_timeout": 600}),
        Wanted("asking", "asks", settings={"call_timeout": 3600, "idle_timeout": 600}),
    ),
    behaviours={"drips": _Drips, "asks": _AsksOnTheStream},
)

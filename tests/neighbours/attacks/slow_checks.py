"""Connections to a server that sends a byte now and then, in each stage of a check; all are due at once, and again."""

from __future__ import annotations

import asyncio

from tests.neighbours.hostile import EVENTS, Behaviour, Request, head
from tests.neighbours.plan import Attack, Ground, Wanted

EACH = 4  # connections of each kind
AGAIN_SECONDS = 5.0


class _Heads(Behaviour):
    async def answer(self, request: Request) -> None:
        await request.drip(b"HTTP/1.1 200 OK\r\nx-filler: ", b"x")


class _Listings(Behaviour):
    async def list_tools(self, request: Request) -> None:
        await request.drip(head(200, length=1_000_000) + b'{"jsonrpc":"2.0",', b" ")


class _Streams(Behaviour):
    async def list_tools(self, request: Request) -> None:
        await request.drip(head(200, kind=EVENTS), b": wait\n\n")


_BEHAVIOURS = {"heads": _Heads, "listings": _Listings, "streams": _Streams}


async def _run(ground: Ground) -> None:
    async with ground.visitor("check asked for", ground.keys.rival_admin) as admin:
        while True:
            for connection in ground.keys.rival_connections.values():
                await admin.ask("POST", f"/v1/connections/{connection}/probe")
            await asyncio.sleep(AGAIN_SECONDS)


ATTACK = Attack(
    name="slow-checks",
    number=10,
    sentence=f"{EACH} connections each to servers that drip heads, listings, and streams without end, checked again",
    run=_run,
    wanted=tuple(
        Wanted(f"{behaviour}{number}", behaviour, checks=0) for behaviour in _BEHAVIOURS for number in range(EACH)
    ),
    behaviours=dict(_BEHAVIOURS),
)

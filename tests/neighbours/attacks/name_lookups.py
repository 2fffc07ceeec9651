"""Connections of one organization whose host names are answered slowly once they are known."""

from __future__ import annotations

import asyncio
import socket
from itertools import count

import orjson

from tests.neighbours.hostile import Behaviour
from tests.neighbours.names import RIVAL, begin_to_be_slow
from tests.neighbours.plan import Attack, Ground, Wanted

NAMES = 40
CALLERS, WRITERS = 64, 8  # at once
CALL_PAUSE = 0.5  # seconds; most calls are refused at once after a while, and then they are many
AGAIN_SECONDS = 5.0


class _HangsUp(Behaviour):
    hangs_up = True  # so that each call looks the name up


async def _run(ground: Ground) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knocking:
        knocking.sendto(*begin_to_be_slow(ground.name_server))
    slugs = list(ground.keys.rival_connections)

    async def calls(number: int) -> None:
        async with ground.visitor("call", ground.keys.rival_token) as caller:
            for turn in count(number):
                await caller.call(f"{slugs[turn % len(slugs)]}__ask", {})
                await asyncio.sleep(CALL_PAUSE)

    async def writes(number: int) -> None:
        async with ground.visitor("new connection", ground.keys.rival_admin) as admin:
            for turn in count():
                name = f"new-{number}-{turn}"
                new = {"name": name, "server_url": f"http://{name}{RIVAL}:{ground.server_port}/slow/mcp"}
                await admin.ask("POST", "/v1/connections", orjson.dumps(new))

    async def checks() -> None:
        async with ground.visitor("check asked for", ground.keys.rival_admin) as admin:
            while True:
                for connection in ground.keys.rival_connections.values():
                    await admin.ask("POST", f"/v1/connections/{connection}/probe")
                await asyncio.sleep(AGAIN_SECONDS)

    await ground.all_of(
        *(calls(number) for number in range(CALLERS)), *(writes(number) for number in range(WRITERS)), checks()
    )


ATTACK = Attack(
    name="name-lookups",
    number=16,
    sentence=f"{NAMES} host names that answer after 20 s: {CALLERS} callers, {WRITERS} who add more, checks of all",
    run=_run,
    wanted=tuple(Wanted(f"n{number}", "slow", host=f"n{number}{RIVAL}") for number in range(NAMES)),
    behaviours={"slow": _HangsUp},
    by_name=True,
)

"""A server that answers with 10 MB of small objects, to a few callers and then to many."""

from __future__ import annotations

import asyncio

from tests.neighbours.hostile import Behaviour, Request
from tests.neighbours.plan import PAUSE, Attack, Ground, Wanted

FEW, MANY = 4, 60  # callers
MANY_AFTER = 10.0  # seconds
OBJECTS = 1_200_000
ANSWER = (
    b'{"resultType":"complete","content":[],"structuredContent":{"list":[' + b'{"a":1},' * (OBJECTS - 1) + b'{"a":1}]}}'
)


class _Large(Behaviour):
    async def call(self, request: Request) -> None:
        await request.result(ANSWER)


async def _run(ground: Ground) -> None:
    async def calls(after: float) -> None:
        await asyncio.sleep(after)
        async with ground.visitor("call", ground.keys.rival_token) as caller:
            while True:
                await caller.call("large__ask", {})
                await asyncio.sleep(PAUSE)

    await ground.all_of(*(calls(0.0 if number < FEW else MANY_AFTER) for number in range(MANY)))


ATTACK = Attack(
    name="large-answers",
    number=12,
    sentence=f"{FEW} and then {MANY} callers of a server that answers {len(ANSWER) // 1_000_000} MB of small objects",
    run=_run,
    wanted=(Wanted("large", "large", settings={"max_answer": 10_000_000}),),
    behaviours={"large": _Large},
)

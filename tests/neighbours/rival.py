"""The attackers, in a process of their own: `python -m tests.neighbours.rival ATTACK`, until SIGTERM.

The first line of input is the ground as JSON. The first line of output says that they begin, the second counts the
answers that they got.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from contextlib import suppress

import orjson
import uvloop

from tests.neighbours.attacks import ATTACKS
from tests.neighbours.hostile import POLITENESS
from tests.neighbours.plan import Attack, Ground, Keys


async def fight(attack: Attack, ground: Ground) -> None:
    """Attack until somebody ends it."""
    work = asyncio.ensure_future(attack.run(ground))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    with suppress(asyncio.CancelledError):
        await work


def main(name: str) -> None:
    """Attack, and tell what was answered."""
    os.nice(POLITENESS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    told = orjson.loads(sys.stdin.readline())
    ground = Ground(**told | {"keys": Keys(**told["keys"])})
    print("begun", flush=True)
    uvloop.run(fight(ATTACKS[name], ground))
    print(orjson.dumps(ground.answers).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

"""Asking for many things at once: nobody's many questions hold up another's one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from tools.gathering import Gatherer


async def test_the_first_key_of_each_is_asked_about_before_anybodys_second() -> None:
    asked: list[list[str]] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def ask(keys: Collection[str]) -> dict[str, str]:
        asked.append(list(keys))
        begun.set()
        await go_on.wait()
        return dict.fromkeys(keys, "seen")

    gatherer = Gatherer(ask, most=3, whose=lambda key: key[0])
    first = asyncio.create_task(gatherer.get("r0"))
    await begun.wait()
    others = [asyncio.create_task(gatherer.get(key)) for key in ("r1", "r2", "r3", "r4", "a1", "b1")]
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(first, *others) == ["seen"] * 7
    assert asked == [["r0"], ["r1", "a1", "b1"], ["r2", "r3", "r4"]]

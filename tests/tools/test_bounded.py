"""Caches that tenants share, and questions that gather."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from tools.bounded import FairCache
from tools.gathering import Gatherer


def test_no_more_is_kept_than_there_is_room_for_and_nobody_takes_it_all() -> None:
    now = [0.0]
    cache: FairCache[str, int] = FairCache(room=80, clock=lambda: now[0])
    for number in range(20):
        cache.put(f"rival {number}", number, tenant="rival", size=1, seconds=60)
    assert [cache.get(f"rival {number}") for number in (0, 9, 10, 19)] == [None, None, 10, 19]
    cache.put("acme", 1, tenant="acme", size=10, seconds=60)
    cache.put("too large", 1, tenant="huge", size=11, seconds=60)
    assert (cache.get("acme"), cache.get("too large")) == (1, None)
    for number in range(10):
        cache.put(f"house {number}", number, tenant=number, size=8, seconds=60)
    assert cache.get("rival 10") is None
    assert cache.get("house 9") == 9
    now[0] = 61.0
    assert cache.get("house 9") is None


async def test_what_is_asked_meanwhile_is_asked_together_and_equal_keys_share_an_answer() -> None:
    asked: list[set[str]] = []
    first_may_go_on = asyncio.Event()

    async def ask(keys: Collection[str]) -> dict[str, str]:
        asked.append(set(keys))
        if len(asked) == 1:
            await first_may_go_on.wait()
        return {key: key.upper() for key in keys if key != "unknown"}

    gatherer: Gatherer[str, str] = Gatherer(ask)
    first = asyncio.ensure_future(gatherer.get("a"))
    await asyncio.sleep(0.01)
    others = [asyncio.ensure_future(gatherer.get(key)) for key in ("b", "c", "b", "a", "unknown")]
    await asyncio.sleep(0.01)
    first_may_go_on.set()
    assert await first == "A"
    assert await asyncio.gather(*others) == ["B", "C", "B", "A", None]
    assert asked == [{"a"}, {"a", "b", "c", "unknown"}]  # whoever asks later gets what was read later


async def test_each_that_asked_gets_the_error() -> None:
    async def ask(keys: Collection[str]) -> dict[str, str]:
        raise LookupError(*sorted(keys))

    gatherer: Gatherer[str, str] = Gatherer(ask)
    answers = await asyncio.gather(gatherer.get("a"), gatherer.get("b"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LookupError, LookupError]
    with pytest.raises(LookupError):
        await gatherer.get("c")

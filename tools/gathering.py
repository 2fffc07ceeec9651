"""Asking for many things at once: while one question is under way, the next ones gather."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from contextvars import Context
from operator import itemgetter
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Gatherer(Generic[Key, Value]):
    """Answers each key by a question that begins after it was asked for; equal keys share an answer."""

    def __init__(
        self,
        ask: Callable[[Collection[Key]], Awaitable[Mapping[Key, Value]]],
        *,
        most: int = 256,
        whose: Callable[[Key], Hashable] | None = None,
    ) -> None:
        """Take what answers many keys, and how many at most; keys without an answer get None.

        `whose` says whose a key is: then the first key of each is asked about before anybody's second.
        """
        self._ask = ask
        self._most = most
        self._whose = whose
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting[Key, Value]] = WeakKeyDictionary()

    async def get(self, key: Key) -> Value | None:
        """Return the answer for one key; raises what asking raises."""
        loop = asyncio.get_running_loop()
        waiting = self._loops.get(loop)
        if waiting is None:
            waiting = self._loops[loop] = _Waiting()
        answer: asyncio.Future[Value | None] = loop.create_future()
        waiting.futures.setdefault(key, []).append(answer)
        if waiting.asking is None:
            waiting.asking = loop.create_task(self._work(waiting), context=Context())
        return await answer

    async def _work(self, waiting: _Waiting[Key, Value]) -> None:
        try:
            while waiting.futures:
                keys = self._in_turn(waiting.futures)[: self._most]
                futures = {key: waiting.futures.pop(key) for key in keys}
                try:
                    found = await self._ask(keys)
                except Exception as error:  # noqa: BLE001 - whatever it was, those who wait have to get it
                    _resolve(futures, {}, error)
                else:
                    _resolve(futures, found, None)
        finally:
            waiting.asking = None

    def _in_turn(self, keys: Iterable[Key]) -> list[Key]:
        if self._whose is None:
            return list(keys)
        asked: Counter[Hashable] = Counter()
        turns: list[tuple[int, Key]] = []
        for key in keys:
            asked[whose := self._whose(key)] += 1
            turns.append((asked[whose], key))
        return [key for _, key in sorted(turns, key=itemgetter(0))]


class _Waiting(Generic[Key, Value]):
    def __init__(self) -> None:
        self.futures: dict[Key, list[asyncio.Future[Value | None]]] = {}
        self.asking: asyncio.Task[None] | None = None


def _resolve(
    futures: Mapping[Key, list[asyncio.Future[Value | None]]], found: Mapping[Key, Value], error: Exception | None
) -> None:
    for key, waiting in futures.items():
        for future in waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(found.get(key))
            else:
                future.set_exception(error)

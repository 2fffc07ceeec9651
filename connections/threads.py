"""The ORM from asynchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection

Value = TypeVar("Value")

THREADS: Final = 8
MOST_OF_ONE: Final = THREADS // 2  # at a time, for requests of one tenant that nothing else counts

_threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="database")
_shares: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[object, asyncio.Semaphore]] = (
    WeakKeyDictionary()
)


async def in_thread(function: Callable[..., Value], *args: Any, of: object = None) -> Value:
    """Run code that uses the ORM in one of a few threads, with a connection that is given back afterwards.

    With `of`, the id of a tenant, no more than half of the threads work for it at a time: what its programs ask as
    often as they like, such as how a call with a large result stands, leaves the others to everybody else.
    """

    def work() -> Value:
        close_old_connections()
        try:
            return function(*args)
        finally:
            connection.close()

    async with nullcontext() if of is None else _share(of):
        return await sync_to_async(work, thread_sensitive=False, executor=_threads)()


def _share(tenant: object) -> asyncio.Semaphore:
    shares = _shares.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    return shares.setdefault(str(tenant), asyncio.Semaphore(MOST_OF_ONE))

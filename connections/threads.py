"""The ORM from asynchronous code."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection

Value = TypeVar("Value")

_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="database")


async def in_thread(function: Callable[..., Value], *args: Any) -> Value:
    """Run code that uses the ORM in one of a few threads; its database connection is given back afterwards."""

    def work() -> Value:
        close_old_connections()
        try:
            return function(*args)
        finally:
            connection.close()

    return await sync_to_async(work, thread_sensitive=False, executor=_threads)()

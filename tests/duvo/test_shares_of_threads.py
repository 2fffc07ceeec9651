"""The few threads for queries are shared: whatever a tenant's programs can have done there, they have half at most."""

from __future__ import annotations

import ast
import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from connections.threads import MOST_OF_ONE, THREADS, in_thread

ROOT = Path(__file__).parents[2]
# Who takes a thread for no tenant, and why that cannot fill them.
FOR_ALL = {
    "connections/audit_pages.py": "one admin's download, a page at a time",
    "tools/cache.py": "one statement at a time, for all that gathered",
    "tools/callers.py": "one statement at a time, for all that gathered",
    "tools/calls/claiming.py": "the worker itself, one at a time",
    "tools/calls/ledger/writing.py": "one statement at a time, for all that gathered",
    "tools/calls/looking.py": "one statement at a time, for all that gathered",
    "tools/calls/offers.py": "one statement at a time, for all that gathered",
    "tools/calls/sessions/keeping.py": "the process's own beat, one at a time",
    "tools/calls/watching.py": "the process's own look, one at a time",
}
GATHERED = {
    ("tools/calls/sessions/opening.py", "_find_in_thread"),
    ("tools/calls/sessions/opening.py", "_see_in_thread"),
}


def test_whoever_takes_a_thread_says_for_which_tenant() -> None:
    unsaid = {(path, function) for path, function in _takers() if path not in FOR_ALL}
    assert unsaid == GATHERED
    assert {path for path, _ in _takers()} >= FOR_ALL.keys(), "an exception that nobody needs any more"


def _takers() -> Iterator[tuple[str, str]]:
    """Yield module and function of each use of `in_thread` that names no tenant."""
    for room in ("connections", "oauth", "tools", "duvo"):
        for path in (ROOT / room).rglob("*.py"):
            for function in ast.walk(ast.parse(path.read_text())):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    for call in ast.walk(function):
                        if isinstance(call, ast.Call) and _takes(call) and not _names_a_tenant(call):
                            yield path.relative_to(ROOT).as_posix(), function.name


def _takes(call: ast.Call) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "in_thread" for one in (call.func, *call.args))


def _names_a_tenant(call: ast.Call) -> bool:
    return any(keyword.arg == "of" for keyword in call.keywords)


async def test_a_tenant_is_the_same_by_its_id_and_by_the_text_of_it() -> None:
    rival, most, now, lock, go_on = uuid4(), [0], [0], threading.Lock(), threading.Event()

    def hold() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        go_on.wait(10)
        with lock:
            now[0] -= 1

    held = [asyncio.create_task(in_thread(hold, of=(rival, str(rival))[turn % 2])) for turn in range(THREADS)]
    assert await asyncio.wait_for(in_thread(lambda: "acme", of=uuid4()), 5) == "acme"  # noqa: TID251 - nobody cancels this
    go_on.set()
    await asyncio.gather(*held)
    assert most == [MOST_OF_ONE]

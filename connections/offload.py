"""Heavy work on what strangers send, done in child processes.

    parts = await offload.run("tools.offload_jobs:check", schema, value, tenant=tenant_id)
    parts = offload.run_sync(...)  # from plain code

A parser or a validator in C holds the interpreter lock from its first byte to its last, and with it every call of the
process; a thread does not help. So what is not small goes to one of a few child processes, as bytes, and comes back as
bytes. A piece that takes too much CPU time or memory ends its child process, and no other. Half of the child processes
are always left to other tenants, and tenants take turns.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from pathlib import Path

from connections.errors import DuvoError
from connections.offload_child import DONE, TOO_LARGE, receive, send

PROCESSES = 2
SHARE = PROCESSES // 2  # of one tenant at a time
MOST_WAITING = 32  # pieces of one tenant
CPU_SECONDS = 3.0  # of one piece
PATIENCE = 120.0  # seconds that a piece may take by the wall clock, on a machine that is busy
TURN_SECONDS = 20.0  # that plain code waits for its turn
_ROOT = Path(__file__).resolve().parent.parent


class TooMuchWork(DuvoError):
    """This takes more time or memory than one piece of work may."""

    code = "too_much_work"


class Crowded(DuvoError):
    """Too much of your organization's work waits already. Try again in a moment."""

    code = "too_much_waiting"


class Broken(DuvoError):
    """This piece of work could not be done, by a fault of ours."""

    code = "work_failed"


async def run(
    job: str, *parts: bytes, tenant: object, seconds: float = CPU_SECONDS, patient: bool = False
) -> list[bytes]:
    """Return what a job ("module:function") makes of the parts, after its turn; `seconds` of CPU time are its most.

    Raises TooMuchWork, Crowded when too many pieces of this tenant wait, and Broken.
    """
    pool = _pools[-1]
    turn = pool.turns.ask(tenant, patient=patient)
    if not turn.done():
        try:
            await asyncio.wrap_future(turn)
        except asyncio.CancelledError:
            pool.turns.withdraw(tenant, turn)
            raise
    work = pool.threads.submit(pool.exchange, job, parts, seconds)
    work.add_done_callback(lambda _: pool.turns.over(tenant))  # also when nobody waits any more
    return await asyncio.wrap_future(work)


def run_sync(job: str, *parts: bytes, tenant: object, seconds: float = CPU_SECONDS) -> list[bytes]:
    """Return what `run` does, from plain code; raises Crowded also when no turn came in 20 seconds."""
    pool = _pools[-1]
    turn = pool.turns.ask(tenant)
    try:
        turn.result(TURN_SECONDS)
    except (NotInTime, CancelledError) as error:
        pool.turns.withdraw(tenant, turn)
        raise Crowded from error
    try:
        return pool.exchange(job, parts, seconds)
    finally:
        pool.turns.over(tenant)


class _Turns:
    """Who may use a process: tenants in turn, none more than its share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[object] = Counter()
        self._waiting: OrderedDict[object, deque[Future[None]]] = OrderedDict()

    def ask(self, tenant: object, *, patient: bool = False) -> Future[None]:
        """Return a future that is done when the turn has come; raises Crowded, unless whoever asks is patient."""
        turn: Future[None] = Future()
        with self._lock:
            if not patient and len(self._waiting.get(tenant, ())) >= MOST_WAITING:
                raise Crowded
            self._waiting.setdefault(tenant, deque()).append(turn)
            chosen = self._next()
        _grant(chosen)
        return turn

    def withdraw(self, tenant: object, turn: Future[None]) -> None:
        """Give up waiting, or the turn if it has come meanwhile."""
        with self._lock:
            waiting = self._waiting.get(tenant)
            if waiting is not None and turn in waiting:
                waiting.remove(turn)
                if not waiting:
                    del self._waiting[tenant]
                return
        self.over(tenant)

    def over(self, tenant: object) -> None:
        """Let the next one have the process."""
        with self._lock:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
            chosen = self._next()
        _grant(chosen)

    def _next(self) -> list[Future[None]]:
        chosen: list[Future[None]] = []
        for tenant in list(self._waiting):
            while self._running.total() < PROCESSES and self._running[tenant] < SHARE and tenant in self._waiting:
                waiting = self._waiting.pop(tenant)
                chosen.append(waiting.popleft())
                self._running[tenant] += 1
                if waiting:
                    self._waiting[tenant] = waiting  # behind the others
        return chosen


def _grant(turns: list[Future[None]]) -> None:
    for turn in turns:  # a cancelled one is given back by who cancelled it
        with suppress(Exception):
            turn.set_result(None)


class _Process:
    """One process and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._process: subprocess.Popen[bytes]
        with theirs:
            # Without a thread's pre-exec code, and without our environment, which holds the product's secrets.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "connections.offload_child"],
                cwd=_ROOT,
                env={"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1"},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        ours.settimeout(PATIENCE)

    def exchange(self, parts: Sequence[bytes]) -> list[bytes]:
        """Send one message and return the answer; raises TooMuchWork when the process died of it."""
        try:
            send(self._socket, parts)
            return receive(self._socket)
        except TimeoutError as error:
            self.end()
            raise TooMuchWork from error
        except (EOFError, OSError) as error:
            status = self.end()
            if status in {-signal.SIGPROF, -signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV}:
                raise TooMuchWork from error
            raise Broken from error

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def end(self) -> int:
        """End the process for good and return its status."""
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):  # a process that has ended has a status of its own
            return self._process.wait(0.5)
        self._process.kill()
        return self._process.wait()

    def forget(self) -> None:
        """Close the socket that a fork has copied: the process is the parent's."""
        self._socket.close()
        self._process.returncode = 0


class _Pool:
    """The child processes, started when they are needed."""

    def __init__(self) -> None:
        self.turns = _Turns()
        self.threads = ThreadPoolExecutor(PROCESSES, thread_name_prefix="offload")
        self._lock = threading.Lock()
        self._idle: list[_Process] = []

    def exchange(self, job: str, parts: Sequence[bytes], seconds: float) -> list[bytes]:
        """Have one piece of work done; raises as `run` does."""
        process = self._take()
        outcome, *answer, grown = process.exchange([job.encode(), b"%f" % seconds, *parts])
        if grown:
            process.end()
        else:
            with self._lock:
                self._idle.append(process)
        if outcome == DONE:
            return answer
        raise TooMuchWork if outcome == TOO_LARGE else Broken(f"{Broken.__doc__} ({answer[0].decode()})")

    def _take(self) -> _Process:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_running:
                    return process
                process.end()
        try:
            return _Process()
        except OSError as error:  # no memory or no number for another process
            raise Broken from error

    def forget(self) -> None:
        """Leave the processes to the parent of a fork."""
        for process in self._idle:
            process.forget()

    def end(self) -> None:
        """End every child process that is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()


_pools = [_Pool()]


def _after_fork() -> None:
    _pools[-1].forget()
    _pools.append(_Pool())


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _at_exit() -> None:
    _pools[-1].end()

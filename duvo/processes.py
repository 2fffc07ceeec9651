"""The embedded default as one process tree: Valkey, web, three Celery workers, beat.

Every child has a process group of its own, so that Ctrl-C reaches only this process, which then stops the others in
order; and every child dies with this process, even by SIGKILL.
"""

from __future__ import annotations

import asyncio
import fcntl
import http.client
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from duvo import stack, valkey

T = TypeVar("T")

HOST = "127.0.0.1"
START_SECONDS = 120  # a busy machine with one core imports for a minute
STOP_SECONDS = 8
VALKEY_STOP_SECONDS = 3
NAME_WIDTH = 11
OF_EACH = {  # what the environment of each program says
    "PYTHONUNBUFFERED": "1",
    "PYTHONWARNINGS": "ignore:You're running the worker with superuser",  # Celery warns root: nothing to act upon here
    "SHUTDOWN_GRACE_WEB": "3",  # seconds; less than STOP_SECONDS
    "SHUTDOWN_GRACE_CALLS": "3",
}


class StackError(Exception):
    """The stack cannot run; the message is a sentence for the person who started it."""


class Stopped(Exception):
    """Ctrl-C, SIGTERM or SIGHUP asked the stack to stop."""


@dataclass(frozen=True)
class Program:
    """One child of the stack."""

    name: str
    command: list[str]
    dies_by: signal.Signals = signal.SIGKILL
    environment: dict[str, str] = field(default_factory=dict)


def programs(*, port: int) -> list[Program]:
    """Return what serves pages and works, without Valkey."""
    python = sys.executable
    web = ["duvo.serve", "--host", HOST, "--port", str(port), "--workers", "1", "--quiet"]
    celery = ["celery", "--quiet", "--app", "duvo"]
    worker = ["worker", "--without-gossip", "--without-mingle"]
    pools = {
        "housekeeping": ["--concurrency", "3"],  # two for what may take long: purging, forgetting
        "probes": ["--concurrency", "4"],
        "calls": ["--pool", "threads", "--concurrency", "32"],
    }
    workers = {
        name: [*celery, *worker, "--queues", name, *pool, "--hostname", f"{name}@%h"] for name, pool in pools.items()
    }
    beat = [*celery, "beat"]
    children = {"web": web, **workers, "beat": beat}
    return [Program(name, [python, "-m", *command]) for name, command in children.items()]


def check_port(port: int) -> None:
    """Raise StackError when somebody already listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            message = f"Port {port} is taken by another program; choose another one, such as --port {port + 1}."
            raise StackError(message) from error


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the data folder for this process; StackError when another stack runs on it."""
    with (data / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"Another stack runs on {data}; stop it, or choose another folder with --data."
            raise StackError(message) from error
        yield


@asynccontextmanager
async def running(*, port: int, data: Path, more: Iterable[Program] = ()) -> AsyncIterator[Stack]:
    """Run the stack, with `more` programs, from its first answer on; stop everything at the end.

    StackError when something does not start, Stopped when somebody does not want to wait for it.
    """
    check_port(port)
    tree = Stack()
    try:
        if os.environ["REDIS_URL"] == stack.embedded_redis_url(data):
            address = stack.socket_path(data)
            await tree.start(Program("valkey", valkey.command(socket_path=address, data=data), dies_by=signal.SIGTERM))
            await tree.unless_stopped(_until(lambda: valkey.answers(address), "Valkey"))
        for program in (*programs(port=port), *more):
            await tree.start(program)
        await tree.unless_stopped(_until(lambda: _healthy(port), "The web process"))
        yield tree
    finally:
        await tree.stop()


class Stack:
    """The running children; make it in the main thread, inside the event loop."""

    def __init__(self) -> None:
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(sign, self._asked_to_stop)

    async def start(self, program: Program) -> None:
        """Start a program; its lines appear with its name in front, its end ends the stack."""
        child = await asyncio.create_subprocess_exec(
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=stack.BASE_DIR,
            env=os.environ | OF_EACH | program.environment,
            process_group=0,
            preexec_fn=stack.dying_with_this_process(program.dies_by),
        )
        self._children[program.name] = child
        for watch in (_print_lines(program.name, child), self._watch(program.name, child)):
            self._tasks.add(asyncio.create_task(watch))

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what the work returns, or raise Stopped or StackError as soon as the stack ends."""
        task = asyncio.create_task(work)
        first: set[asyncio.Future[Any]] = {task, self._end}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            self._end.result()
        return await task

    async def until_stopped(self) -> None:
        """Wait for the end; StackError when a child died."""
        with suppress(Stopped):
            await self._end

    async def stop(self) -> None:
        """End every child: first politely, then for good; Valkey last, because the others write to it."""
        self._stopping = True
        others = [child for name, child in self._children.items() if name != "valkey"]
        await _end(others, STOP_SECONDS)
        await _end([child for name, child in self._children.items() if name == "valkey"], VALKEY_STOP_SECONDS)
        await asyncio.gather(*self._tasks)
        if self._end.done():
            self._end.exception()  # seen, whoever waited for it

    async def _watch(self, name: str, child: asyncio.subprocess.Process) -> None:
        status = await child.wait()
        if not self._stopping and not self._end.done():
            self._end.set_exception(StackError(f"{name} ended by itself (status {status}); its last lines say why."))

    def _asked_to_stop(self) -> None:
        if self._stopping:  # the second Ctrl-C: do not wait any longer
            for child in self._children.values():
                _kill_group(child)
        elif not self._end.done():
            self._end.set_exception(Stopped())


async def _print_lines(name: str, child: asyncio.subprocess.Process) -> None:
    assert child.stdout is not None  # noqa: S101 - it was started with a pipe
    rest = b""
    while chunk := await child.stdout.read(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(None, lines):
            print(f"{name:<{NAME_WIDTH}} | {line.decode(errors='replace')}", flush=True)  # noqa: T201 - for a terminal


async def _end(children: list[asyncio.subprocess.Process], patience: float) -> None:
    for child in children:
        with suppress(ProcessLookupError):
            child.terminate()
    waits = [asyncio.create_task(child.wait()) for child in children]
    if waits:
        await asyncio.wait(waits, timeout=patience)
    for child in children:
        _kill_group(child)  # also what a child left behind
    await asyncio.gather(*waits)


def _kill_group(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


async def until_listening(port: int, subject: str) -> None:
    """Wait until somebody accepts connections on the port; StackError, naming the subject, when nobody does."""

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    await _until(listens, subject)


async def _until(condition: Callable[[], bool], subject: str) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - another process's state has no event
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        message = f"{subject} gave no answer within {START_SECONDS} seconds."
        raise StackError(message) from error


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

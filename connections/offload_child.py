"""A process that does one piece of somebody's heavy work after the other: `connections.offload` starts and feeds it.

It reads what strangers wrote, so it has no secret, no database and no network to speak of: its environment is empty,
and it imports nothing of Django. The kernel ends it when a piece takes more CPU time than it may, or more memory; it
ends by itself when its parent is gone.
"""

from __future__ import annotations

import re
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

DONE, FAILED, TOO_LARGE = b"done", b"failed", b"too large"
MEMORY = 768 * 1024 * 1024  # bytes of data that it may have; 10 MB of small objects take 450 MB
_KEPT = 192 * 1024 * 1024  # bytes; one that has grown more than that is replaced
_FILES = 32

Job = Callable[..., Sequence[bytes]]


def send(sock: socket.socket, parts: Sequence[bytes]) -> None:
    """Send parts; their number and lengths go first."""
    sock.sendall(struct.pack(f">I{len(parts)}Q", len(parts), *map(len, parts)))
    for part in parts:
        sock.sendall(part)


def receive(sock: socket.socket) -> list[bytes]:
    """Return the parts of one message; raises EOFError when the other side is gone."""
    (count,) = struct.unpack(">I", _exactly(sock, 4))
    lengths = struct.unpack(f">{count}Q", _exactly(sock, 8 * count))
    return [_exactly(sock, length) for length in lengths]


def _exactly(sock: socket.socket, length: int) -> bytes:
    whole = bytearray(length)
    view, done = memoryview(whole), 0
    while done < length:
        got = sock.recv_into(view[done:])
        if not got:
            raise EOFError
        done += got
    return bytes(whole)


def main() -> None:
    """Work until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    sys.setrecursionlimit(5_000)
    jobs: dict[bytes, Job] = {}
    with socket.socket(fileno=0) as sock:
        while True:
            try:
                name, seconds, *parts = receive(sock)
                # The signal ends this process: no handler could run while a library holds the interpreter.
                signal.setitimer(signal.ITIMER_PROF, float(seconds))
                outcome = _outcome(jobs, name, parts)
                signal.setitimer(signal.ITIMER_PROF, 0)
                send(sock, [*outcome, b"1" if _grown() else b""])
            except (EOFError, OSError):
                return
            del parts, outcome


def _outcome(jobs: dict[bytes, Job], name: bytes, parts: list[bytes]) -> list[bytes]:
    try:
        if name not in jobs:
            module, _, function = name.decode().partition(":")
            jobs[name] = getattr(import_module(module), function)
        return [DONE, *jobs[name](*parts)]
    except MemoryError:
        return [TOO_LARGE]
    except Exception as error:  # noqa: BLE001 - whatever it was, the parent has to know
        return [FAILED, type(error).__name__.encode()]  # its message may hold what a stranger wrote


def _grown() -> bool:
    # Not `ru_maxrss`, which begins with what the parent had.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not on Linux
        return False
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return peak is not None and int(peak[1]) * 1024 > _KEPT


if __name__ == "__main__":
    main()

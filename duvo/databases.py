"""The database as Django's settings have it: what DATABASE_URL says, completed for SQLite or for PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from duvo.environment import Environment
from duvo.variables import SQLITE

# libpq's: a network that swallows packets is given up as soon as one that refuses them; sockets of Unix ignore all.
CLOCKS_OF_A_CONNECTION = {
    "connect_timeout": 3,  # seconds
    "tcp_user_timeout": 3_000,  # milliseconds that sent bytes may stay without acknowledgement
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 3,
    "keepalives_count": 3,
}
_CHECK_SECONDS = 2.0  # that a connection from the pool may take to show that it works
_CHECK = ""  # what the pool executes for that


class CheckedConnection(psycopg.Connection[Any]):
    """A connection whose check has an end: a server that is stopped, and not ended, would let everybody wait."""

    _patience: float | None = None

    def execute(self, query: Any, *arguments: Any, **options: Any) -> psycopg.Cursor[Any]:
        """Do as the others do; raises OperationalError when a check takes too long."""
        if query != _CHECK:
            return super().execute(query, *arguments, **options)
        self._patience = _CHECK_SECONDS
        try:
            return super().execute(query, *arguments, **options)
        except psycopg.errors._WaitTimeout as failure:  # noqa: SLF001 - what `wait` raises has no public name
            message = "the server does not answer"
            raise psycopg.OperationalError(message) from failure
        finally:
            self._patience = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as the others do, and within a check no longer than a check may take."""
        return super().wait(gen, interval, self._patience if timeout is None else timeout)


def database(env: Environment) -> dict[str, Any]:
    """Return the entry of `DATABASES`; makes the folder of an SQLite file."""
    return _sqlite(env.database_url) if env.database_url["ENGINE"] == SQLITE else _postgresql(env)


def _sqlite(address: dict[str, Any]) -> dict[str, Any]:
    Path(address["NAME"]).parent.mkdir(parents=True, exist_ok=True)
    # Without IMMEDIATE and WAL two of three concurrent writes fail as "database is locked".
    options = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 10,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    }
    return address | {"OPTIONS": options}


def _postgresql(env: Environment) -> dict[str, Any]:
    options: dict[str, Any] = {
        # Who waits for a connection hears within three seconds that there is none. The pool would double its pauses for
        # minutes while the database is away; so it gives up quickly, and the next one who asks tries anew.
        "pool": {
            "connection_class": CheckedConnection,
            "min_size": 0,
            "max_size": env.database_pool_size,
            "timeout": 2.5,
            "reconnect_timeout": 2,
        },
        **CLOCKS_OF_A_CONNECTION,
        "prepare_threshold": 5,  # for statements that are bound at the server: those of the call path
        **env.database_url["OPTIONS"],  # what the URL says, as `?sslmode=verify-full`
    }
    # Sent when a connection begins, so it costs no statement of its own; what the URL asks for comes last and wins.
    clocks = {"statement_timeout": env.database_statement_timeout, "lock_timeout": env.database_lock_timeout}
    wanted = [f"-c {name}={seconds}s" for name, seconds in clocks.items() if seconds]
    wanted.append(str(options.pop("options", "")))
    if any(wanted):
        options["options"] = " ".join(filter(None, wanted))
    return env.database_url | {
        "CONN_MAX_AGE": 0,  # the pool keeps the connections
        "CONN_HEALTH_CHECKS": True,  # and hands out none that a restarted server has closed
        "OPTIONS": options,
    }

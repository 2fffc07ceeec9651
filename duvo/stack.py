"""The embedded default: where its data lies, the environment made from it, and processes that die with their parent.

`manage.py up` and `manage.py demo` need no setting at all. What the environment or `.env` sets is respected.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from django.conf import settings

from duvo import env_file, new_settings

BASE_DIR = Path(__file__).resolve().parent.parent
DEFAULT_DATA = BASE_DIR / "var"
DEMO_DATA = DEFAULT_DATA / "demo"
DEFAULT_PORT = 8000
LONGEST_SOCKET_PATH = 107  # bytes; sun_path of unix(7) without its closing zero
WITHOUT_SETTINGS = {"new_env", "make_seal_key"}  # what they print is needed before there are any
SERVING = {"up", "demo", "runserver"}  # commands that begin web processes or workers
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)  # loaded here, because a freshly forked child must not import


def prepare(argv: list[str]) -> None:
    """Set the environment of the embedded default where it applies, and write `--port` and `--data` out in `argv`.

    It applies to `up` and `demo`; to other commands only where nothing is configured and `up` has already left its
    secrets, so that `manage.py start` finds the database of `make up`, and a server without settings refuses.
    """
    command = argv[1] if len(argv) > 1 else ""
    if command not in SERVING:  # a migration or a rotation of keys takes as long as it takes
        os.environ |= {"DATABASE_STATEMENT_TIMEOUT": "0", "DATABASE_LOCK_TIMEOUT": "0"}
    if command in WITHOUT_SETTINGS:
        settings.configure(INSTALLED_APPS=["duvo.apps.DuvoConfig"])
    elif command in {"up", "demo"} and not {"-h", "--help"} & set(argv):
        _leave_the_file_to_compose()
        options = _options(argv[2:])
        if options.data is None and options.once:
            argv.append("--temporary")
            options.data = Path(tempfile.mkdtemp(prefix="duvo-"))
        data = (options.data or (DEMO_DATA if command == "demo" else DEFAULT_DATA)).resolve()
        port = options.port or (free_port() if options.once else DEFAULT_PORT)
        argv += ["--data", str(data), "--port", str(port)]
        _set(embedded_environment(data, port=port))
        if command == "demo":
            # Its MCP server answers on loopback, and its own lines matter more than the logs.
            _set({"EGRESS_ALLOWED_NETWORKS": "127.0.0.1/32", "LOG_LEVEL": "WARNING"})
    elif not _is_set("SECRET_KEY") and _secrets_file(DEFAULT_DATA).exists():
        _set(embedded_environment(DEFAULT_DATA, port=DEFAULT_PORT))


def embedded_environment(data: Path, *, port: int) -> dict[str, str]:
    """Return the settings of a stack whose data lies in `data`; make the folder and its secrets at the first time."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    public_url = os.environ.get("PUBLIC_URL", f"http://127.0.0.1:{port}")
    hosts = {"127.0.0.1", "localhost", urlsplit(public_url).hostname or ""} - {""}
    return {
        "DATABASE_URL": f"sqlite:///{quote(str(data / 'duvo.sqlite3'))}",
        "REDIS_URL": embedded_redis_url(data),
        "PUBLIC_URL": public_url,
        "ALLOWED_HOSTS": ",".join(sorted(hosts)),
        "LOG_FORMAT": "text",
        **_secrets(data),
    }


def embedded_redis_url(data: Path) -> str:
    """Return the address of the Valkey that keeps its data in `data`."""
    return f"unix://{quote(str(socket_path(data)))}"


def socket_path(data: Path) -> Path:
    """Return where that Valkey listens: in `data`, or in a short private folder when the path would be too long."""
    path = data / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    mark = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"duvo-{os.getuid()}-{mark}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        message = f"{folder} belongs to somebody else or is open to others: remove it, or choose a shorter --data."
        raise SystemExit(message)
    return folder / path.name


def die_with_parent(sign: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `sign` to this process when the thread that started it ends, however that happens."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, int(sign), 0, 0, 0)


def dying_with_this_process(sign: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` for a child that must not outlive this process; start the child from the main thread."""
    parent = os.getpid()

    def arm() -> None:
        die_with_parent(sign)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)

    return arm


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--once", action="store_true")
    return parser.parse_known_args(arguments)[0]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _secrets_file(data: Path) -> Path:
    return data / "secrets.env"


def _secrets(data: Path) -> dict[str, str]:
    path = _secrets_file(data)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return env_file.read(path)[0]
    made = {"SECRET_KEY": new_settings.secret_key(), "SEAL_KEYS": new_settings.seal_key()}
    with os.fdopen(descriptor, "w") as file:
        file.write("# Made once. Without SEAL_KEYS the stored credentials cannot be opened again.\n")
        file.writelines(f"{name}={value}\n" for name, value in made.items())
    return made


def _is_set(name: str) -> bool:
    return name in os.environ or name in _from_file()


def _from_file() -> dict[str, str]:
    return env_file.read(Path(os.environ.get("ENV_FILE", BASE_DIR / ".env")))[0]


def _leave_the_file_to_compose() -> None:
    """Let this process and its children read nothing from a `.env` that is compose.yaml's."""
    if "POSTGRES_PASSWORD" in _from_file():
        os.environ["ENV_FILE"] = os.devnull


def _set(environment: dict[str, str]) -> None:
    os.environ.update({name: value for name, value in environment.items() if not _is_set(name)})

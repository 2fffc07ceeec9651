"""A throw-away Valkey on a unix socket."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from duvo import stack, valkey

START_SECONDS = 10
_OURS = "VALKEY_OF_THE_PARENT"  # where xdist's processes see that the address they inherit is not the developer's


def start() -> str:
    """Set REDIS_URL to a server that lives as long as this process, unless somebody else has set it; return it."""
    if "REDIS_URL" not in os.environ or os.environ["REDIS_URL"] == os.environ.get(_OURS):
        until_exit = ExitStack()
        atexit.register(until_exit.close)
        os.environ["REDIS_URL"] = os.environ[_OURS] = until_exit.enter_context(running())
    return os.environ["REDIS_URL"]


@contextmanager
def running() -> Iterator[str]:
    """Run a server and give its URL. Call it from the main thread: the server dies with the thread that started it."""
    with tempfile.TemporaryDirectory(prefix="duvo-valkey-") as name:
        folder = Path(name)
        address = folder / "valkey.sock"
        process = subprocess.Popen(
            valkey.command(socket_path=address, data=folder),
            preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
            process_group=0,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not valkey.answers(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    message = f"Valkey did not start in {folder}."
                    raise RuntimeError(message)
                time.sleep(0.01)
            yield f"unix://{address}"
        finally:
            process.kill()  # nothing in it outlives the run
            process.wait()

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
    with broker() as one:
        yield one.url


@contextmanager
def broker() -> Iterator[Broker]:
    """Run a server that the caller may stop and start again; see `running`."""
    with tempfile.TemporaryDirectory(prefix="duvo-valkey-") as name:
        one = Broker(Path(name))
        try:
            one.start()
            yield one
        finally:
            one.stop()


class Broker:
    """A server on the data in a folder; what was written outlives its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._address = folder / "valkey.sock"
        self.url = f"unix://{self._address}"

    def start(self) -> None:
        """Start it and return when it takes commands."""
        self._process = subprocess.Popen(
            valkey.command(socket_path=self._address, data=self._folder),
            preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
            process_group=0,
        )
        deadline = time.monotonic() + START_SECONDS
        while not valkey.answers(self._address):
            if self._process.poll() is not None or time.monotonic() > deadline:
                message = f"Valkey did not start in {self._folder}."
                raise RuntimeError(message)
            time.sleep(0.01)

    def stop(self) -> None:
        """End it in the middle of whatever it does."""
        self._process.kill()
        self._process.wait()

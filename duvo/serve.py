"""`python -m duvo.serve`: the web processes, as they run in production.

uvicorn with the options that the product needs, and with another end. Told to stop, uvicorn's parent process would keep
its socket open until the last worker has ended: whoever connects meanwhile hangs, and is cut off then. Here nobody can
connect from the first moment on, so that a proxy takes another server; what is under way is ended as
`tools.calls.closing` says.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "duvo.settings")
from django.conf import settings

from duvo import stack

MOST_CONNECTIONS = 3000  # of one worker
KEEP_ALIVE = 75  # seconds; longer than a proxy keeps a connection that it does not use
SILENT_FOR = 30  # seconds without a sign after which a worker is replaced; on a busy machine one imports for ten
ANSWERS_WITHIN = 5  # seconds that calls which are cut off take to be answered


class Parent(Multiprocess):
    """The process that starts the workers, and replaces one that dies."""

    def terminate_all(self) -> None:
        """Take no connection any more, then have the workers end."""
        for listening in self.sockets:
            listening.close()
        super().terminate_all()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m duvo.serve", description="The web processes of the product.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")
    parser.add_argument("--workers", type=int, default=4, help="processes that answer (default 4)")
    parser.add_argument("--quiet", action="store_true", help="log no starts and ends")
    options = parser.parse_args()
    config = Config(
        "duvo.asgi:application",
        host=options.host,
        port=options.port,
        workers=options.workers,
        loop="uvloop",
        http="duvo.protocol:Protocol",
        lifespan="on",
        log_config=str(Path(__file__).with_name("uvicorn.json")),
        log_level="warning" if options.quiet else None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_worker_healthcheck=SILENT_FOR,
        timeout_graceful_shutdown=settings.SHUTDOWN_GRACE_WEB + ANSWERS_WITHIN,
    )
    if options.workers > 1:
        Parent(config, [config.bind_socket()]).run()
    else:
        Server(config).run()


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # a worker, which is to end with its parent, also when that is killed
    stack.die_with_parent(signal.SIGTERM)

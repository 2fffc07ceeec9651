"""The Celery application and its three queues.

housekeeping   dispatchers and what ends, purges and deletes: asks no other server, so that it never waits for one
probes         what asks other servers for the product's own sake: checks, renewals, notices, polls of tasks
calls          tenants' queued calls; no messages, the worker claims their rows (tools/calls/claiming.py)
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Any

from celery import Celery, bootsteps
from celery.signals import setup_logging, task_failure, worker_init, worker_process_init, worker_process_shutdown
from celery.worker import state
from django.conf import settings

from connections import metrics, refused_writes
from duvo import stack
from duvo.logging import configure, formatter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "duvo.settings")

app = Celery("duvo")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class QueuedCalls(bootsteps.StartStopStep):
    """Has a worker of the queue `calls` make queued calls, as many at a time as its `--concurrency` says."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, worker: Any) -> bool:
        """Leave the workers of other queues alone."""
        return "calls" in worker.app.amqp.queues.consume_from

    def start(self, worker: Any) -> None:
        """Begin to take calls."""
        from tools.calls.claiming import Claimer  # noqa: PLC0415 - models are there once the worker has set Django up

        self._claimer = Claimer(worker.concurrency)
        self._claimer.start()

    def stop(self, worker: Any) -> None:
        """Take no more calls and wait for those under way, unless the worker is told to end at once."""
        self._claimer.stop(enough=lambda: state.should_terminate is not None)

    def terminate(self, worker: Any) -> None:
        """End at once; the sweeper finds out what became of the calls under way."""


app.steps["worker"].add(QueuedCalls)


@setup_logging.connect
def _log_like_the_web(**_: Any) -> None:
    configure(settings.LOGGING)


@worker_init.connect
def _print_lines_only(**_: Any) -> None:
    from celery.apps import worker  # noqa: PLC0415 - only a worker has it loaded already

    worker.safe_say = _say  # type: ignore[attr-defined]


def _say(message: str, *_: Any) -> None:
    """Write what Celery prints while it handles a signal as a line of the log, without logging: a lock may be held."""
    logger = logging.getLogger("celery.apps.worker")
    if logger.isEnabledFor(logging.INFO):
        line = formatter().format(logger.makeRecord(logger.name, logging.INFO, "", 0, message, (), None))
        with suppress(OSError):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{line}\n".encode())


@task_failure.connect
def _show_a_refused_write(exception: BaseException, **_: Any) -> None:
    refused_writes.note(exception)


@worker_process_init.connect
def _die_with_the_worker(**_: Any) -> None:
    stack.die_with_parent()


@worker_process_shutdown.connect
def _hand_counts_over(**_: Any) -> None:
    metrics.hand_over()  # these processes end without `atexit`

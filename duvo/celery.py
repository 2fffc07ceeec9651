"""The Celery application: two queues, `calls` (threads) and `maintenance` (processes)."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown
from django.conf import settings

from connections import metrics
from duvo import stack
from duvo.logging import configure

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "duvo.settings")

app = Celery("duvo")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def _log_like_the_web(**_: Any) -> None:
    configure(settings.LOGGING)


@worker_process_init.connect
def _die_with_the_worker(**_: Any) -> None:
    stack.die_with_parent()


@worker_process_shutdown.connect
def _hand_counts_over(**_: Any) -> None:
    metrics.hand_over()  # these processes end without `atexit`

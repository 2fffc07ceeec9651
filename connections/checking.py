"""Asking for a check of a connection. Who checks lives in a higher room, so it is called by the name of its task."""

from __future__ import annotations

import logging
from functools import partial
from uuid import UUID

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from connections.models import Connection

TASK = "tools.probe_connection"

logger = logging.getLogger(__name__)


def ask(connection: Connection) -> None:
    """Have the connection checked as soon as this transaction is through, at the latest when beat next looks."""
    connection.request_probe()
    transaction.on_commit(partial(_send, connection.pk))


def _send(connection_id: UUID) -> None:
    try:
        current_app.send_task(TASK, kwargs={"connection_id": str(connection_id)}, queue="maintenance", retry=False)
    except (OperationalError, OSError):
        # The row is due now, so beat's dispatcher picks it up once the broker is back.
        logger.warning("The check of connection %s waits: the message broker does not answer.", connection_id)

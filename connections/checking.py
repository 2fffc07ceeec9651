"""Requesting a check of a connection. The task is in `tools`, which may not be imported here, so it is sent by name."""

from __future__ import annotations

import logging
from functools import partial
from uuid import UUID

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from connections import shares
from connections.models import Connection

CHECKS = shares.Work(task="tools.probe_connection", dispatcher="tools.dispatch_probes")

logger = logging.getLogger(__name__)


def request_check(connection: Connection) -> None:
    """Have the connection checked as soon as this transaction is committed, at the latest when beat next runs."""
    connection.request_probe()
    transaction.on_commit(partial(_send, connection.tenant_id, connection.pk))


def _send(tenant_id: UUID, connection_id: UUID) -> None:
    # The row is due now: beat's dispatcher picks it up when its organization has a slot, and the broker is back.
    if not CHECKS.admits(tenant_id, connection_id):
        return
    arguments = {"connection_id": str(connection_id)}
    try:
        current_app.send_task(CHECKS.task, kwargs=arguments, expires=shares.WAITS, retry=False)
    except (OperationalError, OSError):
        logger.warning("The check of connection %s waits: the message broker does not answer.", connection_id)

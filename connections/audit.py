"""Recording who did what: the one function that makes audit events."""

from __future__ import annotations

from typing import Any, Protocol

from connections.context import request_id
from connections.models import AuditEvent, Tenant, User


class _Row(Protocol):
    pk: Any


def record(
    actor: User | str, action: str, target: _Row, *, tenant: Tenant | None, outcome: str = "ok", **data: Any
) -> AuditEvent:
    """Append one event: actor (a user, or a word such as "system"), action ("connection.created"), target row.

    `data` is JSON and must hold no secret: names of changed fields, never their secret values.
    """
    return AuditEvent.objects.create(
        tenant=tenant,
        actor=actor if isinstance(actor, str) else actor.get_username(),
        action=action,
        object_type=type(target).__name__.lower(),
        object_id=str(target.pk),
        object_label=str(target)[:200],
        outcome=outcome,
        request_id=request_id.get(),
        data=data,
    )

"""Recording who did what: the one function that makes audit events; and how files and webhooks get them."""

from __future__ import annotations

from datetime import UTC
from typing import Any, Final, Protocol

from connections.context import request_id
from connections.models import AuditEvent, Tenant, User

COLUMNS: Final = (
    "at", "organization", "actor", "action", "object_type", "object_id", "object_label", "outcome", "request_id",
    "data", "id",
)  # fmt: skip


class _Row(Protocol):
    pk: Any


def record(
    actor: User | str, action: str, target: _Row, *, tenant: Tenant | None, outcome: str = "ok", **data: Any
) -> AuditEvent:
    """Append one event: actor (a user, or a word such as "system"), action ("connection.created"), target row.

    `data` is JSON and must hold no secret: names of changed fields, never their secret values. What a superuser does
    to an organization that they do not belong to is marked as done by staff.
    """
    if tenant is not None and isinstance(actor, User) and actor.is_staff_in(tenant.pk):
        data["by_staff"] = True
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


def said(event: AuditEvent) -> dict[str, Any]:
    """Return an event as a file or a webhook gets it; it never holds a secret."""
    return {
        "at": event.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "organization": event.tenant.name if event.tenant else "",
        **{name: getattr(event, name) for name in COLUMNS[2:-1]},
        "id": str(event.pk),
    }

"""The live sessions of a connection, for its page in the app `connections`, which does not import `tools`."""

from __future__ import annotations

from typing import Any

from django import template

from connections.models import Connection
from connections.tenancy import person
from tools.models import McpSession

SHOWN = 10

register = template.Library()


@register.inclusion_tag("admin/tools/sessions.html", takes_context=True)
def live_sessions(context: dict[str, Any], connection: Connection, *, can_change: bool = False) -> dict[str, Any]:
    """Show those used last to people of its organization; a list of its own has them all."""
    user = person(context["request"])
    inside = user.is_superuser or connection.tenant_id in user.roles
    rows = McpSession.objects.live().filter(connection=connection, opened_at__isnull=False)
    rows = rows if inside else rows.none()
    shown = list(rows.select_related("assignment").order_by("-used_at")[: SHOWN + 1])
    return {
        "sessions": shown[:SHOWN],
        "more": rows.count() if len(shown) > SHOWN else 0,
        "connection": connection,
        "can_change": can_change,
        "csrf_token": context.get("csrf_token"),
    }

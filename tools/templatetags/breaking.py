"""Who uses connections, for pages of the app `connections`, and what breaks when something is deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import template
from django.utils import timezone

from connections.models import Connection
from connections.tenancy import person
from oauth.models import SignIn
from tools.assigning import uses
from tools.models import AccessToken, Assignment, Call, Tool

SHOWN = 10  # assignments

register = template.Library()


@register.inclusion_tag("admin/tools/uses.html", takes_context=True)
def who_uses(context: dict[str, Any], connection: Connection) -> dict[str, Any]:
    """Show the assignments that may use a connection to people of its organization."""
    viewer = person(context["request"])
    if not (viewer.is_superuser or connection.tenant_id in viewer.roles):
        return {}
    return {"uses": uses.of([connection], SHOWN), "connection": connection}


@register.inclusion_tag("admin/tools/breaks.html")
def what_breaks(connections: Connection | Iterable[Connection]) -> dict[str, Any]:
    """Say what ends with the deletion of connections, by name."""
    rows = [connections] if isinstance(connections, Connection) else list(connections)
    keys = [row.pk for row in rows]
    return {
        "uses": uses.of(rows, SHOWN),
        "tools": Tool.objects.filter(connection__in=keys).count(),
        "calls": Call.objects.filter(connection__in=keys, finished_at=None).count(),
        "sign_ins": SignIn.objects.filter(connection__in=keys, ended_at=None).count(),
        "several": len(rows) > 1,
    }


@register.inclusion_tag("admin/tools/assignment/ends.html")
def what_ends(assignments: Assignment | Iterable[Assignment]) -> dict[str, Any]:
    """Say what ends with the deletion of assignments."""
    keys = [row.pk for row in ([assignments] if isinstance(assignments, Assignment) else assignments)]
    tokens = AccessToken.objects.filter(assignment__in=keys)
    return {
        "tokens": tokens.live(timezone.now()).count(),
        "used_at": tokens.exclude(last_used_at=None)
        .order_by("-last_used_at")
        .values_list("last_used_at", flat=True)
        .first(),
        "calls": Call.objects.filter(assignment__in=keys, finished_at=None).count(),
        "several": len(keys) > 1,
    }

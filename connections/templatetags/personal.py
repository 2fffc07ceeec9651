"""The card of a connection's page about what members have entered of their own."""

from __future__ import annotations

from typing import Any

from django import template
from django.http import HttpRequest

from connections import personal
from connections.ages import ago
from connections.models import ACTING, Connection, Credential, Membership
from connections.tenancy import person

SHOWN = 50  # other members

register = template.Library()


@register.inclusion_tag("admin/connections/connection/own.html", takes_context=True)
def own_credential(context: dict[str, Any], connection: Connection) -> dict[str, Any]:
    """Show whether this person is connected, who else is, and who can use the connection."""
    if connection.own_kind is None:
        return {"kind": None}
    request: HttpRequest = context["request"]
    viewer = person(request)
    entered = {row.owner_id: row for row in personal.within(connection)}
    for row in entered.values():
        row.connection = connection
    mine = entered.get(viewer.pk)
    people = _people(connection, entered, viewer.pk) if personal.sees_all(viewer, connection) else []
    return {
        "connection": connection,
        "kind": connection.own_kind,
        "word": personal.WORD[connection.own_kind],
        "may_connect": personal.may_connect(viewer, connection),
        "mine": mine,
        "people": people[:SHOWN],
        "more": max(0, len(people) - SHOWN),
        "reach": personal.reach(connection, {owner for owner, row in entered.items() if row.fits}),
        "csrf_token": context.get("csrf_token"),
    }


def _people(connection: Connection, entered: dict[int | None, Credential], viewer: int) -> list[dict[str, Any]]:
    """Return the other members, those who are connected first."""
    members = Membership.objects.filter(tenant=connection.tenant_id, role__in=ACTING, user__is_active=True)
    others = members.exclude(user=viewer).select_related("user").order_by("user__username")
    listed = [(member.user.get_username(), entered.get(member.user_id)) for member in others]
    return [
        {"name": name, "entered": row, "since": ago(row.set_at) if row else ""}
        for name, row in sorted(listed, key=lambda one: one[1] is None)
    ]

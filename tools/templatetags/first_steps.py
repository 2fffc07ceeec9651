"""The start page's first steps of a new organization: a connection, an assignment with a token, a call."""

from __future__ import annotations

from typing import Any

from django import template
from django.db.models import Exists, OuterRef, Q
from django.http import HttpRequest

from connections.models import Role, Tenant
from connections.tenancy import person
from tools.models import AccessToken, Assignment, Call

register = template.Library()


@register.inclusion_tag("admin/tools/first_steps.html", takes_context=True)
def first_steps(context: dict[str, Any]) -> dict[str, Any]:
    """Show an admin what is still to do until the first call of their organization; nothing from then on."""
    if getattr(context.get("week"), "calls", 0):  # of the organization that is shown
        return {}
    request: HttpRequest = context["request"]
    mine = [tenant for tenant, role in person(request).roles.items() if role == Role.ADMIN]
    tenant = _new_among(mine) if mine else None
    if tenant is None:
        return {}
    connection = tenant.connections.order_by("created_at").first()
    assignment = Assignment.objects.filter(tenant=tenant).order_by("created_at").first()
    return {
        "tenant": tenant,
        "several": len(mine) > 1,
        "connection": connection,
        "assignment": assignment,
        "token": assignment is not None and AccessToken.objects.filter(assignment__tenant=tenant).exists(),
    }


def _new_among(ids: list[Any]) -> Tenant | None:
    """Return the newest of these organizations of which no assignment has called anything yet."""
    calls = Call.objects.filter(tenant=OuterRef("pk"))
    used = AccessToken.objects.filter(assignment__tenant=OuterRef("pk"), last_used_at__isnull=False)  # outlives calls
    return Tenant.objects.filter(~Exists(calls) & ~Q(Exists(used)), pk__in=ids).order_by("-created_at").first()

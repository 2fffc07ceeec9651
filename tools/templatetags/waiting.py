"""What waits for this person: how much, in the header of each page, and which calls, on the start page."""

from __future__ import annotations

from typing import Any

from django import template
from django.db.models import QuerySet
from django.http import HttpRequest

from connections.models import Connection, Tenant, User
from connections.states import ToolsState
from connections.tenancy import ADMINS, person, tenants_of
from tools.models import Call
from tools.models.call_states import CallState

SHOWN = 10

register = template.Library()


@register.inclusion_tag("admin/tools/waiting_count.html", takes_context=True)
def waiting_count(context: dict[str, Any]) -> dict[str, Any]:
    """Show how much waits for this person as an admin: calls, and connections with tools to review."""
    user = getattr(context.get("request"), "user", None)
    if not isinstance(user, User) or not user.is_active:
        return {}
    if not user.is_superuser and not ADMINS.intersection(user.roles.values()):
        return {}
    tenants = tenants_of(user, ADMINS)
    to_review = Connection.objects.filter(tenant__in=tenants, enabled=True, tools_state=ToolsState.TO_REVIEW)
    calls = _calls(tenants).order_by().values("pk")
    return {"count": calls.union(to_review.order_by().values("pk"), all=True).count()}  # one query, on every page


def _calls(tenants: QuerySet[Tenant]) -> QuerySet[Call]:
    waiting = [CallState.AWAITING_APPROVAL, CallState.INPUT_REQUIRED]
    return Call.objects.filter(tenant__in=tenants, state__in=waiting, waits_until__isnull=False)


@register.inclusion_tag("admin/tools/waiting.html", takes_context=True)
def waiting(context: dict[str, Any]) -> dict[str, Any]:
    """Show the newest 10 calls that an admin of their organization is to decide or answer."""
    request: HttpRequest = context["request"]
    user = person(request)
    rows = _calls(tenants_of(user, ADMINS)).select_related("assignment", "tenant")
    rows = rows.defer("sealed_arguments", "sealed_result")
    return {
        "user": user,
        "calls": rows[:SHOWN],
        "others": max(0, rows.count() - SHOWN),
        "several": user.is_superuser or len(user.roles) > 1,
    }

"""The start page's list of calls that wait for this person: to be approved, or for an answer to a question."""

from __future__ import annotations

from typing import Any

from django import template
from django.http import HttpRequest

from connections.tenancy import ADMINS, person, tenants_of
from tools.models import Call
from tools.models.call_states import CallState

SHOWN = 10

register = template.Library()


@register.inclusion_tag("admin/tools/waiting.html", takes_context=True)
def waiting(context: dict[str, Any]) -> dict[str, Any]:
    """Show the newest 10 calls that an admin of their organization is to decide or answer."""
    request: HttpRequest = context["request"]
    user = person(request)
    rows = (
        Call.objects.filter(
            tenant__in=tenants_of(user, ADMINS),
            state__in=[CallState.AWAITING_APPROVAL, CallState.INPUT_REQUIRED],
            waits_until__isnull=False,
        )
        .select_related("assignment", "tenant")
        .defer("sealed_arguments", "sealed_result")
    )
    return {
        "user": user,
        "calls": rows[:SHOWN],
        "others": max(0, rows.count() - SHOWN),
        "several": user.is_superuser or len(user.roles) > 1,
    }

"""The start page's list of what others did in the name of this person."""

from __future__ import annotations

from typing import Any

from django import template
from django.http import HttpRequest

from connections.tenancy import person, tenants_of
from tools.models import OwnerNotice

SHOWN = 10

register = template.Library()


@register.inclusion_tag("admin/tools/told.html", takes_context=True)
def told_to_owner(context: dict[str, Any]) -> dict[str, Any]:
    """Show the newest 10 notices that this person has not seen, of organizations that they still belong to."""
    request: HttpRequest = context["request"]
    user = person(request)
    rows = OwnerNotice.objects.filter(owner=user, seen_at=None, assignment__tenant__in=tenants_of(user))
    shown = list(rows.select_related("assignment")[: SHOWN + 1])
    return {"notices": shown[:SHOWN], "others": rows.count() - SHOWN if len(shown) > SHOWN else 0}

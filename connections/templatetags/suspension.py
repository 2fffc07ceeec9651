"""The banner on every page of people whose organization is suspended."""

from __future__ import annotations

from typing import Any

from django import template

from connections.models import Tenant, User

register = template.Library()


@register.inclusion_tag("admin/duvo/suspended.html", takes_context=True)
def suspended(context: dict[str, Any]) -> dict[str, Any]:
    """Show which organizations of this person are suspended, and why."""
    user = getattr(context.get("request"), "user", None)
    if not isinstance(user, User) or not user.is_active or not user.suspended_in:
        return {"tenants": []}
    return {"tenants": Tenant.objects.filter(pk__in=user.suspended_in)}

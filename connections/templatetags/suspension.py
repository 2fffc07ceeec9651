"""The banners on every page: of people whose organization is suspended, and of staff who act in one."""

from __future__ import annotations

from typing import Any

from django import template
from django.contrib.admin.sites import site
from django.db.models import Model

from connections.models import Tenant, User
from connections.tenancy import TenantAdmin

register = template.Library()


@register.inclusion_tag("admin/duvo/suspended.html", takes_context=True)
def suspended(context: dict[str, Any]) -> dict[str, Any]:
    """Show which organizations of this person are suspended, and why."""
    user = getattr(context.get("request"), "user", None)
    if not isinstance(user, User) or not user.is_active or not user.suspended_in:
        return {"tenants": []}
    return {"tenants": Tenant.objects.filter(pk__in=user.suspended_in)}


@register.inclusion_tag("admin/duvo/staff_acting.html", takes_context=True)
def staff_acting(context: dict[str, Any]) -> dict[str, Any]:
    """Show a superuser where they act, why and until when; on a page that they only look at, where they could."""
    user = getattr(context.get("request"), "user", None)
    if not (isinstance(user, User) and user.is_active and user.is_superuser):
        return {}
    tenant = _whose(context.get("original"))
    looked_at = tenant if tenant is not None and tenant.pk not in user.roles else None
    return {"visit": user.staff_visit, "looked_at": looked_at, "csrf_token": context.get("csrf_token")}


def _whose(row: Any) -> Tenant | None:
    page = site._registry.get(type(row)) if isinstance(row, Model) else None  # noqa: SLF001 - None for most
    if not isinstance(page, TenantAdmin) or isinstance(row, Tenant):
        return None
    try:
        return page.tenant_of(row)
    except Tenant.DoesNotExist:  # what is recorded outlives it
        return None

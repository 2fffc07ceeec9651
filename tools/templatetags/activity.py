"""Whether this person sees calls, so that pages lead to them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import template

from connections.tenancy import ADMINS_AND_AUDITORS, person

register = template.Library()


@register.simple_tag(takes_context=True)
def sees_calls(context: dict[str, Any], tenant_id: UUID) -> bool:
    """Tell whether the viewer sees the calls of this organization."""
    viewer = person(context["request"])
    return viewer.is_superuser or viewer.roles.get(tenant_id) in ADMINS_AND_AUDITORS

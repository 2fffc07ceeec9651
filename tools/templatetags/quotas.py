"""How much of its quotas an organization uses, for its page."""

from __future__ import annotations

from typing import Any

from django import template

from connections.models import Tenant
from tools.calls import usage

register = template.Library()


@register.inclusion_tag("admin/tools/quotas.html")
def use_of_quotas(tenant: Tenant) -> dict[str, Any]:
    """Show each quota with its use."""
    return {"uses": usage.of(tenant)}

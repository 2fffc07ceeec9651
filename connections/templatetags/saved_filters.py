"""The saved filters of a list, on the list."""

from __future__ import annotations

from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest

from connections import saved_filters as saved
from connections.tenancy import ClosedAdmin

register = template.Library()


@register.inclusion_tag("admin/duvo/saved_filters.html", takes_context=True)
def saved_filters(context: dict[str, Any], cl: ChangeList) -> dict[str, Any]:
    """Show what this person has saved on the list, and let them save what they see; nothing while there is neither."""
    request: HttpRequest = context["request"]
    page = cl.model_admin
    if not isinstance(page, ClosedAdmin):
        return {}
    asked = request.GET.urlencode()
    return {
        "saved": saved.choices(page, request),
        "query": saved.taken(page, request, asked) if asked else "",
        "page": page.opts.label_lower,
        "longest_name": saved.LONGEST_NAME,
        "csrf_token": context.get("csrf_token"),
    }

"""What waits for this person: how much, in the header of each page."""

from __future__ import annotations

from typing import Any

from django import template

from connections.models import User
from tools.admin import inbox
from tools.inbox import things

register = template.Library()


@register.inclusion_tag("admin/tools/waiting_count.html", takes_context=True)
def waiting_count(context: dict[str, Any]) -> dict[str, Any]:
    """Show the way to the inbox with the number of its things; a script keeps it up to date."""
    user = getattr(context.get("request"), "user", None)
    if not isinstance(user, User) or not user.is_active or not things.concerns(user):
        return {}
    return inbox.words(user)  # one query, on every page

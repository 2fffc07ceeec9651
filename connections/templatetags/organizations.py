"""In which organization a page is, in its header, and a way to another one for who belongs to several."""

from __future__ import annotations

from typing import Any

from django import template

from connections.models import User

register = template.Library()


@register.inclusion_tag("people/organization.html", takes_context=True)
def whose_page(context: dict[str, Any]) -> dict[str, Any]:
    """Show the organization of this page, or that it is all of somebody's; nothing to who belongs nowhere."""
    user = getattr(context.get("request"), "user", None)
    if not isinstance(user, User) or not user.is_active:
        return {}
    acts_in = f"Staff: acts in {user.staff_visit.tenant}" if user.staff_visit else ""
    looks = "Staff: all organizations" if user.is_superuser else "Reviewer" if user.is_reviewer else ""
    return {
        "csrf_token": context.get("csrf_token"),
        "belongings": user.belongs_to,
        "here": next((one for one in user.belongs_to if one.tenant == user.acting_in), None),
        "staff": acts_in or looks,
    }

"""The links in the header of every page to where people go most, also where no side bar stands."""

from __future__ import annotations

from typing import Any, Final

from django import template

SECTIONS: Final = ("Connection", "Assignment", "Call", "DailyUse", "Membership")

register = template.Library()


@register.inclusion_tag("admin/duvo/sections.html", takes_context=True)
def sections(context: dict[str, Any]) -> dict[str, Any]:
    """Show those of the sections that this person sees, as the side bar does; on pages that know it."""
    request = context.get("request")
    seen: dict[str, dict[str, Any]] = {}
    for app in context.get("available_apps") or ():
        seen |= {page["object_name"]: page for page in app["models"]}
    path = getattr(request, "path", "")
    shown = [seen[name] for name in SECTIONS if name in seen and seen[name]["admin_url"]]
    return {
        "sections": [
            {"name": page["name"], "url": page["admin_url"], "here": path.startswith(page["admin_url"])}
            for page in shown
        ]
    }

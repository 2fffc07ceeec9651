"""Which help page belongs to which page of the admin."""

from __future__ import annotations

from typing import Any, Final

from django import template
from django.db.models.options import Options
from django.urls import reverse

register = template.Library()

# By the model's name: page, heading, and what the link says.
HELP: Final = {
    "connection": ("connect-a-server", "", "Connect a server"),
    "tenant": ("connect-a-server", "your-organization", "Your organization"),
    "membership": ("people-and-sign-in", "inviting", "People and sign-in"),
    "invitation": ("people-and-sign-in", "inviting", "People and sign-in"),
    "user": ("people-and-sign-in", "roles", "Roles"),
    "auditevent": ("security", "who-may-do-what", "Who may do what"),
    "bulletin": ("connect-a-server", "what-else-people-are-told", "What else people are told"),
    "notice": ("connect-a-server", "when-a-sign-in-ends", "When a sign-in ends"),
    "tool": ("connect-a-server", "tools-and-their-review", "Tools and their review"),
    "assignment": ("connect-a-server", "assignments", "Assignments"),
    "call": ("connect-a-server", "calls-approvals-and-questions", "Calls, approvals and questions"),
    "dailyuse": ("connect-a-server", "activity", "Activity"),
    "probe": ("connect-a-server", "what-a-check-does", "What a check does"),
    "mcpsession": ("connect-a-server", "servers-that-remember", "Servers that remember"),
    "accesstoken": ("calls-over-rest", "tokens", "Tokens"),
}


@register.inclusion_tag("admin/duvo/help_link.html")
def help_for(opts: Options[Any] | str | None) -> dict[str, str]:
    """Link the help page of a model's forms and lists; nothing where there is no model."""
    page, heading, text = HELP.get(getattr(opts, "model_name", None) or "", ("", "", ""))
    if not page:
        return {}
    return {"address": reverse("help-page", args=[page]) + (f"#{heading}" if heading else ""), "text": text}

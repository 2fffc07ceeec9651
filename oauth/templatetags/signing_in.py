"""Template tags that show signing in on the pages of `connections`, which may not import this package."""

from __future__ import annotations

from typing import Any

from django import template
from django.http import HttpRequest
from django.utils import timezone

from connections import redirects
from connections.forms import ConnectionForm
from connections.models import Connection
from connections.tenancy import person
from oauth import report, ways_in

register = template.Library()


@register.inclusion_tag("admin/oauth/sign_in.html", takes_context=True)
def sign_in(context: dict[str, Any], connection: Connection, *, can_change: bool = False) -> dict[str, Any]:
    """Show who is signed in, the buttons that this person may press, and the steps of the last discovery."""
    request: HttpRequest = context["request"]
    shown = report.report_of(connection, person(request), timezone.now())
    return {**shown, "connection": connection, "can_change": can_change}


@register.inclusion_tag("admin/oauth/way_in.html", takes_context=True)
def way_in(context: dict[str, Any], connection: Connection) -> dict[str, Any]:
    """Show the buttons that end a trouble which the last check found: another authorization method or address."""
    return {
        "connection": connection,
        "offer": ways_in.offered(connection),
        "address": redirects.offered(connection),
        "csrf_token": context.get("csrf_token"),
    }


@register.inclusion_tag("admin/oauth/guide.html")
def guide(form: ConnectionForm) -> dict[str, Any]:
    """Show how to register a client by hand, at the provider that was found where there is one."""
    return report.guide_of(form.instance, timezone.now())

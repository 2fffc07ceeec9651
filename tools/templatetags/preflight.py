"""The report of a connection, for the pages of the app `connections`, which does not import `tools`."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone

from connections.models import Authorization, Connection
from connections.states import CredentialState
from tools.catalog import days
from tools.catalog.report import report_of

register = template.Library()


@register.inclusion_tag("admin/tools/report.html")
def preflight(connection: Connection, *, can_change: bool = False) -> dict[str, Any]:
    """Show the states, the latest check and the tools; a script keeps them up to date while a check runs."""
    return {
        "report": report_of(connection, timezone.now()),
        "report_url": reverse("admin:tools_probe_report", args=[connection.pk]),
        "connection": connection,
        "can_change": can_change,
        "cure": _cure(connection) if can_change else None,
    }


def _cure(connection: Connection) -> tuple[str, str] | None:
    """Return the field of the form below that ends the trouble with the credential, and what is entered there."""
    if connection.credential_state not in (CredentialState.MISSING, CredentialState.REFUSED) or connection.is_personal:
        return None
    fields = {Authorization.API_KEY: ("id_api_key", "API key"), Authorization.HEADERS: ("id_headers", "headers")}
    return fields.get(Authorization(connection.authorization))


@register.inclusion_tag("admin/tools/days.html")
def ninety_days(connection: Connection) -> dict[str, Any]:
    """Show how the connection was on each of the last 90 days; nothing on its first one."""
    return {"strip": days.of(connection, timezone.now(), timezone.get_current_timezone()), "height": days.HEIGHT}

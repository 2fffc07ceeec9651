"""The banner on every page while a part of the product does not work: technical for staff, plain words for others."""

from __future__ import annotations

from typing import Any, Final

from django import template
from django.utils import timezone

from connections import heartbeats
from connections.ages import ago
from connections.models import User

PLAIN: Final = {
    "beat": "Connections are not checked and sign-ins are not renewed",
    "housekeeping": "Connections are not checked and sign-ins are not renewed",
    "probes": "Connections are not checked and sign-ins are not renewed",
    "calls": "Calls that wait in the queue are not made",
}

register = template.Library()


@register.inclusion_tag("admin/duvo/running.html", takes_context=True)
def running(context: dict[str, Any]) -> dict[str, Any]:
    """Show what does not work at the moment; nothing to who is not signed in."""
    user = getattr(context.get("request"), "user", None)
    if not isinstance(user, User) or not user.is_active:
        return {}
    signs = heartbeats.seen()
    if signs.redis and not signs.late and not signs.refuses_writes:
        return {}
    return {"technical": _technical(signs)} if user.is_superuser or user.is_reviewer else {"plain": _plain(signs)}


def _technical(signs: heartbeats.Signs) -> list[str]:
    now = timezone.now()
    facts = [] if signs.redis else ["Redis does not answer."]
    if signs.refuses_writes:
        facts.append("The database stores nothing: its disk is full, or it is a standby that only reads.")
    return facts + [
        f"{sign.name}: no sign of life {'yet' if sign.at is None else f'since {sign.at:%Y-%m-%d %H:%M:%S} UTC, '}"
        f"{'' if sign.at is None else ago(sign.at, now)}."
        for sign in signs.late
    ]


def _plain(signs: heartbeats.Signs) -> list[str]:
    facts = dict.fromkeys(PLAIN[sign.name] for sign in signs.late)
    if signs.refuses_writes:
        facts = {"Nothing can be saved, and calls are not made": None} | facts
    if not facts:
        facts = {"Work in the background may begin late": None}
    return [*facts]

"""What a bulletin says: names and links of what is still so, and what to do. Nothing that anybody sent or answered."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse

from connections.models import OF_CALLS, Bulletin, Kind, Matter, Tenant
from connections.notices import audit_feed
from connections.notices.letters import Letter, choices_page, line, moment, page_of, readers

MOST_IN_A_MAIL = 20
MOST_IN_A_MESSAGE = 200  # of the webhook


class _Words(NamedTuple):
    one: str
    many: str
    step: str


_WORDS = {
    Kind.AWAITING_APPROVAL: _Words(
        "a call waits for an approval",
        "{} calls wait for an approval",
        "Open the call, look at what it would do, and approve or refuse it.",
    ),
    Kind.INPUT_REQUIRED: _Words(
        "a call waits for an answer",
        "{} calls wait for an answer",
        "Open the call, read what the server asks, and answer or decline.",
    ),
    Kind.TOOLS_TO_REVIEW: _Words(
        "tools wait for a review",
        "tools of {} connections wait for a review",
        "Open Tools, look at what is new or changed, and approve what may be used.",
    ),
    Kind.UNREACHABLE: _Words(
        "the server cannot be reached",
        "{} connections cannot be reached",
        "Open the connection: its latest check says what went wrong. We keep trying, and tell when it is over.",
    ),
    Kind.RECOVERED: _Words(
        "the server can be reached again",
        "{} connections can be reached again",
        "Nothing.",
    ),
}


def letter(bulletin: Bulletin) -> Letter | None:
    """Return what to send, to the organization's admins; None when nothing of it is so any more."""
    if bulletin.kind == Kind.AUDIT:
        return audit_feed.letter(bulletin)
    rows = bulletin.matters.open().filter(connection__enabled=True)
    matters = list(rows.select_related("connection")[:MOST_IN_A_MESSAGE])
    if not matters:
        return None
    kind, count = Kind(bulletin.kind), rows.count()
    return Letter(
        tenant=bulletin.tenant,
        kind=kind,
        type=kind.value,
        readers=readers(bulletin.tenant, kind),
        subject=_subject(bulletin.tenant, kind, matters, count),
        text_for=lambda _: _text(bulletin.tenant, kind, matters, count),
        data=_data(bulletin.tenant, kind, matters, count),
        step=_WORDS[kind].step,
        links=[(_described(matter), _page(matter)) for matter in matters],
    )


def _said(kind: Kind, count: int) -> str:
    words = _WORDS[kind]
    return words.one if count == 1 else words.many.format(count)


def _subject(tenant: Tenant, kind: Kind, matters: list[Matter], count: int) -> str:
    if count == 1:
        return f"{_name(matters[0])} ({line(tenant.name)}): {_said(kind, count)}"
    return f"{line(tenant.name)}: {_said(kind, count)}"


def _text(tenant: Tenant, kind: Kind, matters: list[Matter], count: int) -> str:
    organization = line(tenant.name)
    lines = [
        f"Organization: {organization}",
        f"What happened: {_said(kind, count)}.",
        f"What to do: {_WORDS[kind].step}",
        "",
    ]
    for matter in matters[:MOST_IN_A_MAIL]:
        lines += [_described(matter), _page(matter), ""]
    if count > MOST_IN_A_MAIL:
        lines += [f"and {count - MOST_IN_A_MAIL} more:", _inbox(), ""]
    lines.append(f"You get this mail because you are an admin of {organization}.")
    return "\n".join([*lines, f"Choose what you are mailed about: {choices_page()}", ""])


def _name(matter: Matter) -> str:
    return line(matter.name) if matter.kind in OF_CALLS else line(matter.connection.name)


def _described(matter: Matter) -> str:
    described = _name(matter)
    if matter.caller:
        described += f", for {line(matter.caller)}"
    if matter.until is not None:
        described += f", until {moment(matter.until)}"
    return described


def _page(matter: Matter) -> str:
    """Return the address of the page where something can be done about it."""
    if matter.kind in OF_CALLS:
        return f"{settings.PUBLIC_URL}{reverse('admin:tools_call_change', args=[matter.call_id])}"
    if matter.kind == Kind.TOOLS_TO_REVIEW:
        query = urlencode({"connection__id__exact": str(matter.connection_id), "availability": "review"})
        return f"{settings.PUBLIC_URL}{reverse('admin:tools_tool_changelist')}?{query}"
    return page_of(matter.connection)


def _inbox() -> str:
    return f"{settings.PUBLIC_URL}{reverse('admin:inbox')}"


def _data(tenant: Tenant, kind: Kind, matters: list[Matter], count: int) -> dict[str, Any]:
    return {
        "organization": tenant.name,
        "sentence": f"{_said(kind, count).capitalize()}.",
        "next_step": _WORDS[kind].step,
        "count": count,
        "items": [_item(matter) for matter in matters],
        "admin_url": _page(matters[0]) if count == 1 else _inbox(),
    }


def _item(matter: Matter) -> dict[str, Any]:
    item: dict[str, Any] = {
        "connection_id": str(matter.connection_id),
        "connection_name": matter.connection.name,
        "since": matter.created_at.isoformat(),
        "admin_url": _page(matter),
    }
    if matter.kind in OF_CALLS:
        item |= {
            "call_id": str(matter.call_id),
            "tool": matter.name,
            "assignment": matter.caller or None,
            "until": matter.until.isoformat() if matter.until else None,
        }
    return item

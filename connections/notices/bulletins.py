"""What a bulletin says: names and links of what is still so, and what to do. Nothing that anybody sent or answered."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse

from connections import moments, personal
from connections.models import OF_CALLS, Bulletin, Kind, Matter, Tenant, User
from connections.notices import audit_feed
from connections.notices.letters import Letter, choices_page, line, page_of, reader, readers

MOST_IN_A_MAIL = 20
MOST_IN_A_MESSAGE = 200  # of the webhook


class _Words(NamedTuple):
    one: str
    many: str
    step: str


_WORDS = {
    Kind.AWAITING_APPROVAL: _Words(
        "a call waits for an approval",
        "{count} calls wait for an approval",
        "Open the call, look at what it would do, and approve or refuse it.",
    ),
    Kind.INPUT_REQUIRED: _Words(
        "a call waits for an answer",
        "{count} calls wait for an answer",
        "Open the call, read what the server asks, and answer or decline.",
    ),
    Kind.LOGIN_REQUIRED: _Words(
        "calls wait until {owner} has connected",
        "calls at {count} connections wait until {owner} has connected",
        "Open the page and connect, there and nowhere else. The calls are made then by themselves.",
    ),
    Kind.TOOLS_TO_REVIEW: _Words(
        "tools wait for a review",
        "tools of {count} connections wait for a review",
        "Open Tools, look at what is new or changed, and approve what may be used.",
    ),
    Kind.UNREACHABLE: _Words(
        "the server cannot be reached",
        "{count} connections cannot be reached",
        "Open the connection: its latest check says what went wrong. We keep trying, and tell when it is over.",
    ),
    Kind.RECOVERED: _Words(
        "the server can be reached again",
        "{count} connections can be reached again",
        "Nothing.",
    ),
}


def letter(bulletin: Bulletin) -> Letter | None:
    """Return what to send, to the organization's admins or to its owner; None when nothing of it is so any more."""
    if bulletin.kind == Kind.AUDIT:
        return audit_feed.letter(bulletin)
    rows = bulletin.matters.open().filter(connection__enabled=True)
    matters = list(rows.select_related("connection")[:MOST_IN_A_MESSAGE])
    if not matters:
        return None
    kind, count, owner = Kind(bulletin.kind), rows.count(), bulletin.owner
    said = _said(kind, count, owner)
    return Letter(
        tenant=bulletin.tenant,
        kind=kind,
        type=kind.value,
        readers=reader(bulletin.tenant, kind, owner) if owner else readers(bulletin.tenant, kind),
        subject=_subject(bulletin.tenant, said, matters, count),
        text_for=lambda _: _text(bulletin, said, matters, count),
        data=_data(bulletin, said, matters, count),
        step=_WORDS[kind].step,
        links=[(_described(matter), _page(matter)) for matter in matters],
    )


def _said(kind: Kind, count: int, owner: User | None) -> str:
    words = _WORDS[kind]
    return (words.one if count == 1 else words.many).format(
        count=count, owner=line(owner.get_username() if owner else "")
    )


def _subject(tenant: Tenant, said: str, matters: list[Matter], count: int) -> str:
    if count == 1:
        return f"{_name(matters[0])} ({line(tenant.name)}): {said}"
    return f"{line(tenant.name)}: {said}"


def _text(bulletin: Bulletin, said: str, matters: list[Matter], count: int) -> str:
    organization = line(bulletin.tenant.name)
    lines = [
        f"Organization: {organization}",
        f"What happened: {said}.",
        f"What to do: {_WORDS[Kind(bulletin.kind)].step}",
        "",
    ]
    for matter in matters[:MOST_IN_A_MAIL]:
        lines += [_described(matter), _page(matter), ""]
    if count > MOST_IN_A_MAIL:
        lines += [f"and {count - MOST_IN_A_MAIL} more:", _inbox(), ""]
    why = (
        f"they are calls of your assignments in {organization}"
        if bulletin.owner
        else f"you are an admin of {organization}"
    )
    lines.append(f"You get this mail because {why}.")
    return "\n".join([*lines, f"Choose what you are mailed about: {choices_page()}", ""])


def _name(matter: Matter) -> str:
    return line(matter.name) if matter.kind in OF_CALLS else line(matter.connection.name)


def _described(matter: Matter) -> str:
    described = _name(matter)
    if matter.caller:
        described += f", for {line(matter.caller)}"
    if matter.until is not None:
        described += f", until {moments.shown(matter.until, zone=matter.connection.tenant.zone)}"
    return described


def _page(matter: Matter) -> str:
    """Return the address of the page where something can be done about it."""
    if matter.kind in OF_CALLS:
        return f"{settings.PUBLIC_URL}{reverse('admin:tools_call_change', args=[matter.call_id])}"
    if matter.kind == Kind.LOGIN_REQUIRED:
        return f"{settings.PUBLIC_URL}{personal.page_to_connect(matter.connection)}"
    if matter.kind == Kind.TOOLS_TO_REVIEW:
        query = urlencode({"connection__id__exact": str(matter.connection_id), "availability": "review"})
        return f"{settings.PUBLIC_URL}{reverse('admin:tools_tool_changelist')}?{query}"
    return page_of(matter.connection)


def _inbox() -> str:
    return f"{settings.PUBLIC_URL}{reverse('admin:inbox')}"


def _data(bulletin: Bulletin, said: str, matters: list[Matter], count: int) -> dict[str, Any]:
    whose = {"member": bulletin.owner.get_username()} if bulletin.owner else {}
    return {
        "organization": bulletin.tenant.name,
        "sentence": f"{said[:1].upper()}{said[1:]}.",
        "next_step": _WORDS[Kind(bulletin.kind)].step,
        "count": count,
        **whose,
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
    elif matter.kind == Kind.LOGIN_REQUIRED:
        item |= {"assignment": matter.caller or None, "until": matter.until.isoformat() if matter.until else None}
    return item

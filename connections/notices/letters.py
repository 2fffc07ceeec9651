"""What a notice about a sign-in says in its mail and in its webhook message, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.urls import reverse

from connections import moments
from connections.models import ACTING, Connection, Kind, Membership, Notice, Role, Tenant, User
from connections.notices import notices
from connections.states import next_step


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What is sent: mails to the readers, and one webhook message of this type."""

    tenant: Tenant
    kind: Kind  # which people and organizations may leave out
    type: str
    readers: list[User]
    subject: str
    text_for: Callable[[User], str]
    data: dict[str, Any]
    step: str
    links: list[tuple[str, str]]  # what it is about, and where something can be done about it
    for_people: bool = True  # whether it is mailed and told in the channel, beside the webhook


def of(notice: Notice) -> Letter:
    """Return the letter of a notice, to the organization's admins and to whose sign-in it is."""
    tenant = notice.connection.tenant
    return Letter(
        tenant=tenant,
        kind=Kind.SIGN_IN,
        type=notices.about(notice.reason).kind,
        readers=readers(tenant, Kind.SIGN_IN, notice.owner_id),
        subject=_subject(notice),
        text_for=lambda person: _text(notice, person),
        data=_data(notice),
        step=next_step(notice.reason),
        links=[(line(notice.connection.name), _page_of_sign_in(notice.connection))],
    )


def together(rows: Sequence[Notice]) -> Letter:
    """Return one letter about several notices of one organization, to the same people as each of them."""
    first = rows[0]
    tenant, what = first.connection.tenant, f"{len(rows)} sign-ins need somebody"
    return Letter(
        tenant=tenant,
        kind=Kind.SIGN_IN,
        type="",  # the webhook is told of each
        readers=readers(tenant, Kind.SIGN_IN, first.owner_id),
        subject=f"{line(tenant.name)}: {what}",
        text_for=lambda person: _text_together(rows, person),
        data={},
        step="Open each connection and sign in again, or do what it says there.",
        links=[
            (f"{line(row.connection.name)}: {notices.about(row.reason).phrase}", _page_of_sign_in(row.connection))
            for row in rows
        ],
    )


def readers(tenant: Tenant, kind: Kind, owner_id: int | None = None) -> list[User]:
    """Return the organization's admins, and this member of it, without those who want no mail of this kind."""
    who = Q(role=Role.ADMIN) if owner_id is None else Q(role=Role.ADMIN) | Q(user=owner_id)
    members = Membership.objects.filter(who, tenant=tenant).values_list("user", "unmailed")
    wanting = [user for user, unmailed in members if kind not in unmailed]
    return list(User.objects.filter(pk__in=wanting, is_active=True).exclude(email="").order_by("pk"))


def reader(tenant: Tenant, kind: Kind, owner: User) -> list[User]:
    """Return this member of the organization, nobody if they want no mail of this kind."""
    mine = Membership.objects.filter(tenant=tenant, user=owner, role__in=ACTING, user__is_active=True).first()
    return [owner] if mine is not None and owner.email and kind not in mine.unmailed else []


def page_of(connection: Connection) -> str:
    """Return the address of a connection's page."""
    return f"{settings.PUBLIC_URL}{reverse('admin:connections_connection_change', args=[connection.pk])}"


def _page_of_sign_in(connection: Connection) -> str:
    return f"{page_of(connection)}#sign-in"


def choices_page() -> str:
    """Return the address of the page where everybody chooses what they are mailed about."""
    return f"{settings.PUBLIC_URL}{reverse('admin:mail_choices')}"


def line(name: str) -> str:
    """Return a name that somebody chose in one line, without anything invisible."""
    return " ".join("".join(character if character.isprintable() else " " for character in name).split())


def _subject(notice: Notice) -> str:
    connection = notice.connection
    phrase = notices.about(notice.reason).phrase
    if notice.until is not None and notice.reason == "sign_in_ends":
        phrase = f"the sign-in ends at {moments.shown(notice.until, zone=connection.tenant.zone)}"
    return f"{line(connection.name)} ({line(connection.tenant.name)}): {phrase}"


def _text(notice: Notice, person: User) -> str:
    connection = notice.connection
    organization = line(connection.tenant.name)
    mine = notice.owner_id == person.pk
    facts = {
        "Connection": line(connection.name),
        "Organization": organization,
        "Sign-in": ("your own" if mine else line(notice.owner.get_username())) if notice.owner else "",
        "What happens" if notice.until else "What happened": notice.sentence,
        "Ends": moments.shown(notice.until, zone=connection.tenant.zone) if notice.until else "",
        "What to do": next_step(notice.reason),
    }
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    why = "it is your own sign-in" if mine else f"you are an admin of {organization}"
    page = _page_of_sign_in(connection)
    return "\n".join([*lines, "", page, "", f"You get this mail because {why}.", _choose(), ""])


def _text_together(rows: Sequence[Notice], person: User) -> str:
    first = rows[0]
    organization = line(first.connection.tenant.name)
    mine = first.owner_id == person.pk
    lines = [f"Organization: {organization}", f"What happened: {len(rows)} sign-ins need somebody.", ""]
    for row in rows:
        lines += [
            f"{line(row.connection.name)}: {row.sentence}",
            next_step(row.reason),
            _page_of_sign_in(row.connection),
            "",
        ]
    why = "they are your own sign-ins" if mine else f"you are an admin of {organization}"
    return "\n".join([*lines, f"You get this mail because {why}.", _choose(), ""])


def _choose() -> str:
    return f"Choose what you are mailed about: {choices_page()}"


def _data(notice: Notice) -> dict[str, Any]:
    connection = notice.connection
    return {
        "organization": connection.tenant.name,
        "connection_id": str(connection.pk),
        "connection_name": connection.name,
        "member": notice.owner.get_username() if notice.owner else None,
        "reason": notice.reason,
        "sentence": notice.sentence,
        "next_step": next_step(notice.reason),
        "until": notice.until.isoformat() if notice.until else None,
        "admin_url": _page_of_sign_in(connection),
    }

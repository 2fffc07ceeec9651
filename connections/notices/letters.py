"""What a notice about a sign-in says in its mail and in its webhook message, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.urls import reverse

from connections.models import Connection, Kind, Membership, Notice, Role, Tenant, User
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
    )


def readers(tenant: Tenant, kind: Kind, owner_id: int | None = None) -> list[User]:
    """Return the organization's admins, and this member of it, without those who want no mail of this kind."""
    who = Q(role=Role.ADMIN) if owner_id is None else Q(role=Role.ADMIN) | Q(user=owner_id)
    members = Membership.objects.filter(who, tenant=tenant).values_list("user", "unmailed")
    wanting = [user for user, unmailed in members if kind not in unmailed]
    return list(User.objects.filter(pk__in=wanting, is_active=True).exclude(email="").order_by("pk"))


def page_of(connection: Connection) -> str:
    """Return the address of a connection's page."""
    return f"{settings.PUBLIC_URL}{reverse('admin:connections_connection_change', args=[connection.pk])}"


def moment(when: datetime) -> str:
    """Return a point in time as people read it."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def line(name: str) -> str:
    """Return a name that somebody chose in one line, without anything invisible."""
    return " ".join("".join(character if character.isprintable() else " " for character in name).split())


def _subject(notice: Notice) -> str:
    connection = notice.connection
    phrase = notices.about(notice.reason).phrase
    if notice.until is not None and notice.reason == "sign_in_ends":
        phrase = f"the sign-in ends at {moment(notice.until)}"
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
        "Ends": moment(notice.until) if notice.until else "",
        "What to do": next_step(notice.reason),
    }
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    why = "it is your own sign-in" if mine else f"you are an admin of {organization}"
    return "\n".join([*lines, "", page_of(connection), "", f"You get this mail because {why}.", ""])


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
        "admin_url": page_of(connection),
    }

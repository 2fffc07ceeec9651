"""The story of an invitation: invite, send, open_link, join.

An invited address is proved by the mail that brought the link. Where no mail server is set up, the admin hands the link
over; that is the only time that somebody else than the invited sees it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from smtplib import SMTPException, SMTPRecipientsRefused
from urllib.parse import urlencode

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from connections import audit, moments, throttle
from connections.digests import keyed
from connections.errors import DuvoError, TooManyTries
from connections.models import Invitation, Membership, Role, Tenant, User
from connections.models.invitations import digest_of
from connections.notices.letters import line
from connections.people import mails
from connections.throttle import Bucket

MOST_PENDING = 200  # of one organization
# Mails at once, and how many per second after that: nobody may have us write to strangers without end.
OF_ORGANIZATION = (50, 1 / 60)
OF_ADDRESS = (5, 1 / 3600)

logger = logging.getLogger(__name__)


class Standing(StrEnum):
    """What somebody who opens a link finds."""

    UNKNOWN = "unknown"  # no such link, or one that was replaced or withdrawn
    TAKEN = "taken"
    EXPIRED = "expired"
    ANOTHER = "another"  # somebody is signed in here for whom it was not made
    SIGN_IN = "sign_in"  # the address has an account already
    NEW = "new"
    JOIN = "join"


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """A link as the person in front of it finds it."""

    standing: Standing
    invitation: Invitation | None = None


class NotSent(DuvoError):
    """The mail server did not take the mail. Send it again in a moment."""

    code = "mail_not_taken"


class LinkIsOver(DuvoError):
    """Meanwhile the link was used, replaced or withdrawn."""

    code = "link_is_over"


# --- inviting ---


def invite(tenant: Tenant, email: str, role: str, days: int, *, by: User, now: datetime) -> str:
    """Invite an address, or, if it is invited already, again with this role and for so many days.

    Returns what `send_again` returns, and raises what it raises.
    """
    _count(tenant, email)
    with transaction.atomic():
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)  # two that invite the same address queue
        row = tenant.invitations.pending().filter(email=email).first() or Invitation(tenant=tenant, email=email)
        row.role, row.days, row.invited_by = role, days, by
        link = _new_link(row, now)
        audit.record(by, "invitation.created", row, tenant=tenant, role=role, days=days)
    return _deliver(row, link, by)


def send_again(invitation: Invitation, *, by: User, now: datetime) -> str:
    """Make a new link and mail it; return the link where no mail server is set up, to be handed over, else "".

    Every earlier link of the invitation opens nothing from now on. Raises LinkIsOver when somebody took it meanwhile,
    TooManyTries, and NotSent when the mail server does not take the mail: the invitation stays, and can be sent again.
    """
    tenant = _tenant_of(invitation)
    _count(tenant, invitation.email)
    with transaction.atomic():
        row = Invitation.objects.select_for_update(no_key=True).pending().filter(pk=invitation.pk).first()
        if row is None:
            raise LinkIsOver
        link = _new_link(row, now)
        audit.record(by, "invitation.sent_again", row, tenant=tenant, role=row.role, days=row.days)
    return _deliver(row, link, by)


def withdraw(invitation: Invitation, by: User) -> None:
    """Withdraw an invitation that nobody has taken: its link opens nothing any more."""
    with transaction.atomic():
        if Invitation.objects.pending().filter(pk=invitation.pk).delete()[0]:
            audit.record(by, "invitation.withdrawn", invitation, tenant=invitation.tenant)


def address_of(key: str) -> str:
    """Return the address of a link; the key is in the query string, which no log line has."""
    return f"{settings.PUBLIC_URL}{reverse('join')}?{urlencode({'key': key})}"


# --- coming in ---


def open_link(key: str, visitor: User | None, now: datetime) -> Door:
    """Return what the person in front of a link finds; nothing is changed, as programs that read mails open links."""
    rows = Invitation.objects.select_related("tenant", "invited_by")
    invitation = rows.filter(digest=digest_of(key)).first() if key else None
    if invitation is None or (invitation.tenant is None and not invitation.accepted_at and staff().exists()):
        return Door(standing=Standing.UNKNOWN)
    return Door(standing=_standing(invitation, visitor, now), invitation=invitation)


def join(invitation: Invitation, person: User, now: datetime) -> Membership | None:
    """Take the invitation for a person whom it is for; return the membership, None for the one that starts everything.

    Whoever is a member already keeps the higher of the two roles that they have. Raises LinkIsOver.
    """
    with transaction.atomic():
        mine = Invitation.objects.select_for_update(of=("self",), no_key=True).pending()
        row = mine.filter(pk=invitation.pk, digest=invitation.digest).first()
        if row is None:
            raise LinkIsOver
        row.accepted_at = now
        row.save(update_fields=["accepted_at"])
        if row.for_staff and not staff().exists():
            person.is_superuser = person.is_staff = True
            person.save(update_fields=["is_superuser", "is_staff"])
            audit.record(person, "user.became_superuser", person, tenant=None)
        if row.tenant is None:
            return None
        membership, is_new = Membership.objects.get_or_create(
            user=person, tenant=row.tenant, defaults={"role": row.role}
        )
        if not is_new and row.role == Role.ADMIN:
            membership.role = Role.ADMIN
            membership.save(update_fields=["role"])
        inviter = row.invited_by.get_username() if row.invited_by else ""
        audit.record(person, "invitation.accepted", row, tenant=row.tenant, invited_by=inviter)
        if is_new:
            audit.record(person, "membership.created", membership, tenant=row.tenant, invited_by=inviter)
        return membership


def staff() -> QuerySet[User]:
    """Return those who look after the installation."""
    return User.objects.filter(is_superuser=True, is_active=True)


def account_of(email: str) -> User | None:
    """Return the account that an address has already: by its e-mail address, or by the name that it signs in with."""
    named = Q(email__iexact=email) | Q(username__iexact=email)
    return User.objects.filter(named).order_by("-is_active", "pk").first() if email else None


def _standing(invitation: Invitation, visitor: User | None, now: datetime) -> Standing:
    if invitation.accepted_at is not None:
        return Standing.TAKEN
    if invitation.has_expired(now):
        return Standing.EXPIRED
    if visitor is not None:
        return Standing.JOIN if not invitation.email or invitation.is_for(visitor) else Standing.ANOTHER
    return Standing.SIGN_IN if account_of(invitation.email) else Standing.NEW


# --- the link and its mail ---


def _count(tenant: Tenant, email: str) -> None:
    organization = Bucket(f"invitations:{tenant.pk}", *OF_ORGANIZATION)
    address = Bucket(f"invited:{keyed('account', email)[0]}", *OF_ADDRESS)
    if wait := throttle.take(organization, address):
        raise TooManyTries("So many invitations were sent that the next has to wait.", retry_after=wait)


def _new_link(invitation: Invitation, now: datetime) -> str:
    key = invitation.new_key(now)
    invitation.save()
    return address_of(key)


def _deliver(invitation: Invitation, link: str, by: User) -> str:
    if settings.EMAIL_BACKEND == settings.NO_MAIL:
        return link
    _mail(invitation, _tenant_of(invitation), link, by)
    mine = Invitation.objects.filter(pk=invitation.pk, digest=invitation.digest)  # unless somebody was quicker
    mine.update(mailed_at=timezone.now())
    return ""


def _mail(invitation: Invitation, tenant: Tenant, link: str, by: User) -> None:
    organization, inviter = line(tenant.name), line(by.get_username())
    until = moments.shown(invitation.expires_at, zone=tenant.zone)
    lines = [
        f"{inviter} invites you to {organization} on Duvo Connections, as {invitation.get_role_display().lower()}.",
        "",
        link,
        "",
        f"The link works once, until {until}, and only for {invitation.email}.",
        "If you do not know what this is about, leave it: nothing happens without you.",
    ]
    try:
        mails.send(f"{inviter} invites you to {organization}", lines, invitation.email)
    except SMTPRecipientsRefused as refusal:
        raise NotSent(
            "The mail server refuses this address. Look whether it is right: withdraw the invitation, and invite again."
        ) from refusal
    except ValueError as fault:  # Django refuses the address before anything is sent
        raise NotSent("No mail can be sent to this address. Withdraw the invitation, and invite another.") from fault
    except (SMTPException, OSError) as failure:
        logger.warning("The mail of an invitation could not be sent: %s", type(failure).__name__)
        raise NotSent from failure


def _tenant_of(invitation: Invitation) -> Tenant:
    assert invitation.tenant is not None  # noqa: S101 - only the one that starts everything has none, and is not mailed
    return invitation.tenant

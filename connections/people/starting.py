"""The story of an installation's first hour: an address for its first person, and the organization that they found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django import forms
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from connections import audit
from connections.errors import DuvoError
from connections.models import Invitation, Membership, Role, Tenant, User
from connections.people import inviting


class Ambiguous(DuvoError):
    """Several organizations have this name. Give the slug of the one that you mean, as staff see it in the admin."""

    code = "ambiguous"


@dataclass(frozen=True, slots=True)
class Started:
    """What `start` found or did, as a sentence, and the address to open."""

    sentence: str
    address: str


def first_address(now: datetime) -> str | None:
    """Return a new address for the first person, None when there are people; earlier addresses open nothing then."""
    if User.objects.exists():
        return None
    return _new_link(Invitation.objects.pending().filter(tenant=None).first() or Invitation(), now, for_staff=True)


def checked_email(entered: str) -> str:
    """Return an e-mail address in small letters; raises ValidationError for what is none."""
    return str(forms.EmailField().clean(entered)).lower()


def start(email: str, organization: str, now: datetime) -> Started:
    """Make sure that there is such an organization, and that this person can become its admin.

    Run again it changes nothing but the link, which is a new one. While nobody is a superuser, this person becomes one.
    Raises Ambiguous.
    """
    with transaction.atomic():
        tenant = _organization(organization)
        person = inviting.account_of(email)
        if person and tenant.memberships.filter(user=person, role=Role.ADMIN).exists():
            home = f"{settings.PUBLIC_URL}{reverse('admin:index')}"
            return Started(f"{email} is an admin of {tenant} already, and signs in at", home)
        found = tenant.invitations.pending().filter(email=email).first()
        row = found or Invitation(tenant=tenant, email=email)
        row.role = Role.ADMIN
        link = _new_link(row, now, for_staff=not inviting.staff().exists())
        audit.record("system", "invitation.created", row, tenant=tenant, role=row.role, days=row.days)
    return Started(
        f"{email} becomes an admin of {tenant} at this address, which works once, for {row.days} days:", link
    )


def found(person: User, name: str) -> Tenant:
    """Make an organization with this person as its admin."""
    with transaction.atomic():
        tenant = Tenant.objects.create(name=name)
        membership = Membership.objects.create(user=person, tenant=tenant, role=Role.ADMIN)
        audit.record(person, "tenant.created", tenant, tenant=tenant)
        audit.record(person, "membership.created", membership, tenant=tenant)
    return tenant


def _new_link(row: Invitation, now: datetime, *, for_staff: bool) -> str:
    row.for_staff = for_staff
    key = row.new_key(now)
    row.save()
    return inviting.address_of(key)


def _organization(name: str) -> Tenant:
    if by_slug := Tenant.objects.filter(slug=name).first():
        return by_slug
    named = list(Tenant.objects.filter(name=name)[:2])
    if len(named) > 1:
        raise Ambiguous
    if named:
        return named[0]
    tenant = Tenant.objects.create(name=name)
    audit.record("system", "tenant.created", tenant, tenant=tenant)
    return tenant

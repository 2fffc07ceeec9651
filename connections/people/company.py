"""The story of signing in with one's company: find, begin, complete.

Which provider it is follows from the domain of the address, and whose domain it is only staff say: else an organization
could have people of another one sent to a page of its own. Who comes in for the first time becomes a member with the
organization's default role. Staff of the platform never come in this way.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from connections import audit, sealing
from connections.errors import SealBroken
from connections.models import Company, CompanyIdentity, Membership, User
from connections.people import inviting, openid
from connections.people.openid import Identity, ProviderFault

VISIT = "company_visit"  # in the session: the visit to a provider that was begun in this browser
_THROUGH = "companies"  # in the session: who has come in through which organizations' providers
_CONTEXT = "company visit"
_LONGEST = 600  # seconds of a visit


class NotThisWay(ProviderFault):
    """You cannot come in this way. Ask an admin of your organization."""

    code = "not_this_way"


@dataclass(frozen=True, slots=True)
class Arrived:
    """Who has come in, through whose provider, and where they wanted to go."""

    person: User
    company: Company
    address: str


def of_address(email: str) -> Company | None:
    """Return through whose provider an address signs in, None if through nobody's."""
    domain = email.strip().rpartition("@")[2].lower()
    mine = Company.objects.filter(domains__name=domain, tenant__suspended_at=None).select_related("tenant")
    return mine.first() if domain and "\0" not in domain else None


def begin(company: Company, request: HttpRequest, *, email: str, address: str) -> str:
    """Remember the visit in this browser, and return where it goes; raises what `openid.discover` raises."""
    provider = openid.discover(company.issuer)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    visit = {
        "company": company.pk,
        "state": state,
        "nonce": nonce,
        "verifier": verifier,
        "to": address,
        "at": time.time(),
    }
    request.session[VISIT] = sealing.seal(visit, context=_CONTEXT)
    return openid.question(
        provider, client_id=company.client_id, redirect_uri=redirect_uri(), state=state, nonce=nonce,
        verifier=verifier, email=email,
    )  # fmt: skip


def complete(request: HttpRequest) -> Arrived:
    """Return who has come back from the provider, once; raises ProviderFault, Refused, Unreachable and SealBroken."""
    visit = _visit(request.session.pop(VISIT, ""))
    if not visit or not secrets.compare_digest(visit["state"].encode(), request.GET.get("state", "").encode()):
        raise ProviderFault("This answer belongs to no visit that was begun in this browser.", code="other_browser")
    company = Company.objects.select_related("tenant").filter(pk=visit["company"], tenant__suspended_at=None).first()
    if company is None:
        raise NotThisWay
    try:
        person = _person(company, _asked(company, visit, request))
    except ProviderFault as fault:
        audit.record("nobody", "company.sign_in_refused", company, tenant=company.tenant, outcome=fault.code)
        raise
    return Arrived(person, company, visit["to"])


def redirect_uri() -> str:
    """Return the address to be registered at the provider."""
    return f"{settings.PUBLIC_URL}{reverse('company-callback')}"


def note(request: HttpRequest, arrived: Arrived) -> None:
    """Note in the session who came in through which organization's provider."""
    organizations = {*came_through(arrived.person, request), str(arrived.company.tenant_id)}
    request.session[_THROUGH] = {"person": arrived.person.pk, "organizations": sorted(organizations)}


def came_through(user: User, request: HttpRequest) -> list[str]:
    """Return the organizations through whose providers this person has come in, in this browser.

    A session may begin with one person, who stops before the second factor, and go on with another.
    """
    noted = request.session.get(_THROUGH, {})
    return list(noted["organizations"]) if noted and noted["person"] == user.pk else []


def missing(user: User, request: HttpRequest) -> str | None:
    """Return the organization that requires its provider, and through which this browser has not come in."""
    through = came_through(user, request) if user.requires_company else []
    return next((str(tenant) for tenant in user.requires_company if str(tenant) not in through), None)


def block(membership: Membership) -> None:
    """Let somebody who is removed not come in through the provider again; an invitation lets them."""
    identities = CompanyIdentity.objects.filter(company__tenant=membership.tenant_id, user=membership.user_id)
    identities.update(blocked_at=timezone.now())


def _visit(sealed: Any) -> dict[str, Any]:
    try:
        visit: dict[str, Any] = sealing.unseal(str(sealed), context=_CONTEXT)
    except SealBroken:
        return {}
    return visit if time.time() - visit["at"] < _LONGEST else {}


def _asked(company: Company, visit: dict[str, Any], request: HttpRequest) -> Identity:
    provider = openid.discover(company.issuer)
    sender = request.GET.get("iss")
    if (sender is not None or provider.says_who_answers) and sender != company.issuer:
        raise ProviderFault("The answer came from another provider.", code="other_sender")
    if not (code := request.GET.get("code", "")):
        raise ProviderFault("Your company's sign-in was cancelled, or did not let you in.", code="not_let_in")
    return openid.answer(
        provider, client_id=company.client_id, secret=company.secret(), code=code, redirect_uri=redirect_uri(),
        nonce=visit["nonce"], verifier=visit["verifier"],
    )  # fmt: skip


def _person(company: Company, identity: Identity) -> User:
    """Return whose identity it is, and make what is missing: the account, the link to it, the membership."""
    with transaction.atomic():
        known = company.identities.select_related("user").filter(subject=identity.subject).first()
        if known is None and not _is_ours(company, identity.email):
            raise NotThisWay("Your address is of no domain of this organization.", code="other_domain")
        user = known.user if known else inviting.account_of(identity.email) or _new(identity)
        if user.sees_every_organization:
            raise NotThisWay("Staff of the platform sign in with their password.", code="staff")
        if not user.is_active:
            raise NotThisWay("Your account is deactivated.", code="deactivated")
        membership = Membership.objects.filter(user=user, tenant=company.tenant).first()
        if membership is None and known is not None and known.blocked_at is not None:
            raise NotThisWay("You were removed from this organization. An admin can invite you again.", code="removed")
        if known is None and membership is None and not user.address_proved:
            raise NotThisWay(
                "There is an account with your address, and nobody has shown that it is yours. Ask the staff of the "
                "platform to remove it, or have a new password mailed to you.",
                code="unproved_address",
            )
        if known is None:
            CompanyIdentity.objects.create(company=company, subject=identity.subject, user=user)
        if membership is None:
            membership = Membership.objects.create(user=user, tenant=company.tenant, role=company.default_role)
            audit.record(user, "membership.created", membership, tenant=company.tenant, through="company sign-in")
        return user


def _new(identity: Identity) -> User:
    user = User(username=identity.email[:150], email=identity.email, first_name=identity.name)
    user.set_unusable_password()
    user.save()
    return user


def _is_ours(company: Company, email: str) -> bool:
    names: Iterable[str] = company.domains.values_list("name", flat=True)
    return email.rpartition("@")[2] in set(names)

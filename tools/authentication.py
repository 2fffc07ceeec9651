"""Who calls the API: `Authorization: Bearer duvo_…` becomes a principal, or nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from connections.models import Role
from tools.errors import OrganizationSuspended
from tools.fresh import Fresh
from tools.models import AccessToken
from tools.models.assignments import digest_of

_NOTE_USE_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: an assignment (`assignment_id` set) or a member with a role (`role` set), of one tenant."""

    token_id: UUID
    tenant_id: UUID
    assignment_id: UUID | None
    role: str | None
    user_id: int | None
    suspended: bool = False  # its organization: then the door stays closed, with a word of its own

    is_authenticated = True  # what DRF asks of a user


def _load(digest: str) -> Principal | None:
    now = timezone.now()
    live = AccessToken.objects.live(now).select_related("assignment__tenant", "membership__tenant")
    token = live.filter(digest=digest).first()
    if token is None:
        return None
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - _NOTE_USE_EVERY)
    AccessToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    owner = token.assignment or token.membership
    assert owner is not None  # noqa: S101 - the database keeps this promise
    return Principal(
        token_id=token.pk,
        tenant_id=owner.tenant_id,
        assignment_id=token.assignment.pk if token.assignment else None,
        role=token.membership.role if token.membership else None,
        user_id=token.membership.user_id if token.membership else None,
        suspended=owner.tenant.suspended_at is not None,
    )


# One second: a token that is revoked in one process stops in every other within it.
principals: Fresh[str, Principal | None] = Fresh(_load, seconds=1.0)


def welcome(principal: Principal | None) -> bool:
    """Whether the door is open to this caller."""
    return principal is not None and not principal.suspended


def token_digest(header: str | None) -> str | None:
    """Return the digest of the bearer token in an Authorization header, or None when there is none."""
    scheme, _, token = (header or "").partition(" ")
    return digest_of(token.strip()) if scheme.lower() == "bearer" and token.strip() else None


class TokenAuthentication(BaseAuthentication):
    """DRF's door to the same principals as the call path."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        """Return the principal; None without a token.

        Raises AuthenticationFailed for one that opens nothing, and OrganizationSuspended.
        """
        digest = token_digest(request.headers.get("Authorization"))
        if digest is None:
            return None
        principal = principals.get_now(digest)
        if principal is None:
            raise AuthenticationFailed
        if principal.suspended:
            raise OrganizationSuspended
        return principal, None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401 (RFC 6750, section 3)."""
        return 'Bearer realm="duvo"'


def _principal(request: Request) -> Principal | None:
    user: object = request.user
    return user if isinstance(user, Principal) else None


class HasPrincipal(BasePermission):
    """Any live token."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether somebody was recognized."""
        return _principal(request) is not None


class IsAssignment(HasPrincipal):
    """Only assignments use tools."""

    message = "Only an assignment's token may do this."

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the caller is an assignment."""
        principal = _principal(request)
        return principal is not None and principal.assignment_id is not None


class IsAdminToChange(HasPrincipal):
    """Everybody with a token reads; an admin's token changes."""

    message = "Only the token of an organization admin may do this."

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the caller may use this method."""
        principal = _principal(request)
        return principal is not None and (request.method in SAFE_METHODS or principal.role == Role.ADMIN)

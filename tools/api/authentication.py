"""Django REST Framework's authentication and permissions, for the callers that `tools.callers` recognizes."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from connections.models import Role
from tools.callers import Principal, recognize_sync, token_digest
from tools.errors import OrganizationSuspended


class TokenAuthentication(BaseAuthentication):
    """Authenticates DRF's requests with the same tokens and principals as the call path."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        """Return the principal; None without a token.

        Raises AuthenticationFailed for an invalid token, OrganizationSuspended and TooManyTries.
        """
        digest = token_digest(request.headers.get("Authorization"))
        if digest is None:
            return None
        principal = recognize_sync(digest, request)
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
    """Any valid token."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the request has a valid token."""
        return _principal(request) is not None


class IsAssignment(HasPrincipal):
    """Only assignments use tools."""

    message = "Only an assignment's token may do this."

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the caller is an assignment."""
        principal = _principal(request)
        return principal is not None and principal.assignment_id is not None


class IsPerson(HasPrincipal):
    """Only people, in any role."""

    message = "Only a person's own token may do this, not an assignment's."

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the caller is a person."""
        principal = _principal(request)
        return principal is not None and principal.role is not None


class IsAdminToChange(HasPrincipal):
    """Everybody with a token reads; an admin's token changes."""

    message = "Only the token of an organization admin may do this."

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the caller may use this method."""
        principal = _principal(request)
        return principal is not None and (request.method in SAFE_METHODS or principal.role == Role.ADMIN)

"""Starting a sign-in from a program: it gets the address that a person opens, for no program signs in."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from connections import audit, personal
from connections.models import Authorization, Connection, Grant, User
from oauth import responses
from tools.api.queries import KnownQuery
from tools.api.serializers import SignInSerializer
from tools.api.views import assignment_of, connections_of, principal_of
from tools.calls import acting
from tools.errors import ActingRefused, CallError


class NobodySignsIn(CallError):
    """Nobody signs in to this connection, and nobody has their own key or headers there. See its `next_step`."""

    code = "nobody_signs_in"
    status = HTTPStatus.CONFLICT


class StartSignIn(KnownQuery):
    """The sign-in of one connection."""

    @extend_schema(
        operation_id="connections_sign_in", summary="Start a sign-in", request=None, responses={200: SignInSerializer}
    )
    def post(self, request: Request, id: UUID) -> Response:  # noqa: A002 - the URL's own word
        """Say where a person signs in, or enters their own key or headers.

        An assignment's token may do this where it acts as its owner, at personal connections; a person's token where
        that person may sign in themselves.
        """
        rows: QuerySet[Connection] = connections_of(request).select_related("tenant")
        connection = get_object_or_404(rows, pk=id)
        if not _is_signed_in_to(connection):
            raise NobodySignsIn
        person = _person(request, connection)
        audit.record(
            person or "assignment", "connection.sign_in_asked", connection, tenant=connection.tenant,
            token=str(principal_of(request).token_id),
        )  # fmt: skip
        said = personal.request_to_connect(connection, person.get_username() if connection.is_personal else None)
        return Response(SignInSerializer(said).data)


def _is_signed_in_to(connection: Connection) -> bool:
    by_a_person = connection.oauth_grant == Grant.AUTHORIZATION_CODE
    return connection.own_kind is not None or (connection.authorization == Authorization.OAUTH and by_a_person)


def _person(request: Request, connection: Connection) -> User:
    """Return who is to sign in for this caller; raises ActingRefused where the token may not ask for that."""
    principal = principal_of(request)
    if principal.assignment_id is not None:
        if not connection.is_personal:
            raise ActingRefused(
                "An assignment's token asks for the sign-ins of its owner only, at personal connections."
            )
        assignment = assignment_of(request)
        acting.check(principal.token_id, assignment)
        return get_object_or_404(User, pk=assignment.owner_id)
    user = get_object_or_404(User, pk=principal.user_id)
    if not responses.may_sign_in(user, connection):
        raise ActingRefused("The person whose token this is may not sign in to this connection.")
    return user

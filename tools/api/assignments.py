"""Assignments and their tokens, by the tokens of people: the rules of the pages, which are in `tools.assigning`.

Every person's token reads. Admins change all assignments; members add and change their own where their organization
lets them have some. Where an assignment acts through personal sign-ins, its owner edits it and issues its tokens.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID, uuid5

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ParseError, PermissionDenied
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from connections import audit, deleting
from connections.models import Membership, Role, Tenant, User
from tools.api import conditional, members, problems
from tools.api.assignment_serializers import (
    AccessTokenRequestSerializer,
    AccessTokenSerializer,
    AssignmentChangeSerializer,
    AssignmentSerializer,
    AssignmentSummarySerializer,
    NewAccessTokenSerializer,
)
from tools.api.authentication import IsPerson
from tools.api.queries import PAGES, KnownQuery
from tools.api.views import ETAG, IF_MATCH, Body, ByAge, Newest, principal_of, tenant_of
from tools.assigning import assignments, tokens
from tools.assigning.assignments import IN_THE_OWNERS_NAME, AssignmentForm
from tools.calls import acting, idempotency
from tools.definitions.near import near
from tools.errors import ActingRefused
from tools.models import AccessToken, Assignment

_COMPARED = 1_000  # tools, with a name that is none of them
_HINTS = 5  # names of none, for which near ones are looked up
_ASSIGNMENT = {"name": "Nightly orders", "instructions": "Order what runs low.", "tools": ["orders__get_stock"]}
_TOKEN = {"label": "Nightly job", "expires_at": "2026-12-31T23:59:59Z"}
_YES_OR_NO = {"true": True, "false": False}


class MayNotHaveAssignments(PermissionDenied):
    """The person may add no assignment."""

    default_detail = "Only an admin's token may do this, or a member's where members may have assignments."


class MayNotChangeAssignment(PermissionDenied):
    """The person may not change this assignment."""

    default_detail = "Only an admin's token may do this, or its owner's where members may have assignments."


class Assignments(KnownQuery, ReadOnlyModelViewSet[Assignment]):
    """Assignments of the caller's organization."""

    parameters = PAGES
    permission_classes = [IsPerson]
    parser_classes = [Body]
    serializer_class = AssignmentSerializer
    pagination_class = ByAge
    lookup_field = "id"
    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[Assignment]:
        """Return the assignments of the organization."""
        if getattr(self, "swagger_fake_view", False):
            return Assignment.objects.none()
        return tenant_of(self.request).assignments.select_related("tenant", "owner")

    @extend_schema(summary="The assignments", responses=AssignmentSummarySerializer(many=True))
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the assignments of the organization, oldest first, page by page."""
        page = self.paginate_queryset(self.get_queryset()) or []
        owners = {row.owner_id for row in page}
        present = set(tenant_of(request).memberships.filter(user__in=owners).values_list("user", flat=True))
        shown = AssignmentSummarySerializer(page, many=True, context={"members": present})
        return self.get_paginated_response(shown.data)

    @extend_schema(summary="One assignment", parameters=[ETAG])
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Show it with its instructions and chosen tools, and the tag of its settings."""
        return self._shown(self.get_object())

    @extend_schema(
        summary="Add an assignment",
        request=AssignmentChangeSerializer,
        responses={201: AssignmentSerializer},
        parameters=[ETAG],
        examples=[OpenApiExample("One that may use one tool", _ASSIGNMENT, request_only=True)],
    )
    def create(self, request: Request) -> Response:
        """Add an assignment; whose token asks owns it, unless an admin names somebody else.

        Names are unique in an organization: the same request again makes no second one.
        """
        if not assignments.may_add(person_of(request), tenant_of(request)):
            raise MayNotHaveAssignments
        return self._shown(deleting.carry_out_beside(partial(self._save, request, None)), status=201)

    @extend_schema(
        summary="Change an assignment",
        request=AssignmentChangeSerializer(partial=True),
        responses=AssignmentSerializer,
        parameters=[ETAG, IF_MATCH],
        examples=[OpenApiExample("No longer in use", {"enabled": False}, request_only=True)],
    )
    def partial_update(self, request: Request, id: UUID) -> Response:  # noqa: A002 - the URL's own word
        """Change an assignment; what is left out stays as it is.

        Another owner ends what its tokens may do in the name of the one before.
        Of two who change it at once the second is judged on what the first has left; with `If-Match` it is refused.
        """
        return self._shown(deleting.carry_out_beside(partial(self._change, request)))

    @extend_schema(summary="Delete an assignment", responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request: Request, id: UUID) -> Response:  # noqa: A002
        """Delete an assignment with its tokens; its open calls end, and calls that have ended stay."""
        conditional.check(request, assignment := changeable(request, self.get_object()))
        deleting.let_go(Assignment.objects.filter(pk=assignment.pk))
        deleting.carry_out(partial(self._delete, request))
        return Response(status=204)

    def _change(self, request: Request) -> Assignment:
        return self._save(request, self._held(request))

    def _delete(self, request: Request) -> None:
        assignment = self._held(request)
        audit.record(person_of(request), "assignment.deleted", assignment, tenant=assignment.tenant)
        assignments.delete(assignment)

    def _held(self, request: Request) -> Assignment:
        """Return the assignment with its row locked, for who may change it; raises PreconditionFailed, too."""
        changeable(request, found := self.get_object())
        rows = Assignment.objects.select_for_update(no_key=True, of=("self",)).select_related("tenant", "owner")
        # Asked once more: whoever had the row meanwhile may have given it to somebody else.
        held = changeable(request, get_object_or_404(rows, pk=found.pk))
        conditional.check(request, held)
        return held

    def _shown(self, assignment: Assignment, status: int = 200) -> Response:
        return conditional.tagged(Response(self.get_serializer(assignment).data, status=status), assignment)

    def _save(self, request: Request, before: Assignment | None) -> Assignment:
        tenant, user = tenant_of(request), person_of(request)
        shape = AssignmentChangeSerializer(data=request.data, partial=before is not None)
        shape.is_valid(raise_exception=True)
        given: dict[str, Any] = shape.validated_data
        new: dict[str, Any] = {"enabled": True, "scope": Assignment.Scope.ALL}
        data = AssignmentForm.data_of(before) if before else new
        if "tools" in given:
            given["tools"] = _tools(given["tools"], tenant, before)
            if given["tools"] and set(given["tools"]) != set(data.get("tools", ())):
                given.setdefault("scope", Assignment.Scope.CHOSEN)
        owner = _owner(given, tenant, before, user)
        form = _ProgramsForm(
            data | given | {"owner": owner and owner.pk}, instance=before, tenant=tenant, user=user,
        )  # fmt: skip
        if not form.is_valid():
            raise _refusal(form.errors.as_data())
        return form.store()


class _ProgramsForm(AssignmentForm):
    """The form of the pages, for which any tool of the organization may be named."""

    chooses_owner, most_offered = True, None


class AssignmentTokens(KnownQuery, ListAPIView[AccessToken]):
    """The tokens of one assignment."""

    parameters = PAGES
    permission_classes = [IsPerson]
    parser_classes = [Body]
    serializer_class = AccessTokenSerializer
    pagination_class = Newest

    def get_queryset(self) -> QuerySet[AccessToken]:
        """Return the tokens of the assignment, ended ones included."""
        if getattr(self, "swagger_fake_view", False):
            return AccessToken.objects.none()
        return self._assignment().access_tokens.select_related("created_by", "assignment")

    def get_serializer_context(self) -> dict[str, Any]:
        """Say which of the assignment's tokens are valid, and which act for its owner."""
        context = dict(super().get_serializer_context())
        if getattr(self, "swagger_fake_view", False):
            return context
        mine = AccessToken.objects.filter(assignment=self._assignment())
        live, acts = (set(rows.values_list("pk", flat=True)) for rows in (mine.live(timezone.now()), mine.acting()))
        return {**context, "live": live, "acting": acts}

    @extend_schema(operation_id="assignments_tokens_list", summary="The tokens of an assignment")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List its tokens, the newest first, also those that have ended; never the tokens themselves."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="assignments_tokens_create",
        summary="Issue a token",
        request=AccessTokenRequestSerializer,
        responses={201: OpenApiResponse(NewAccessTokenSerializer, description="The token, shown this once.")},
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                location=OpenApiParameter.HEADER,
                pattern=r'^(?!""$)[!-~]{1,255}$',
                description="1 to 255 visible ASCII characters: with the same key no second token of the assignment is "
                "made (409), and as the first cannot be shown again, `token_id` says which to revoke.",
            )
        ],
        examples=[OpenApiExample("Until the end of the year", _TOKEN, request_only=True)],
    )
    def post(self, request: Request, id: UUID) -> Response:  # noqa: A002 - the URL's own word
        """Issue a token of the assignment. The answer shows it, this once, and nothing keeps it."""
        assignment = changeable(request, self._assignment())
        key = idempotency.value_of(request.headers.get("Idempotency-Key"))
        shape = AccessTokenRequestSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        form = _ProgramsTokenForm(shape.validated_data, longest=assignment.tenant.max_token_days)
        if not form.is_valid():
            raise problems.Invalid.of(form.errors.as_data())
        pk = uuid5(assignment.pk, key) if key is not None else None
        row, token = tokens.issue(assignment, person_of(request), **form.cleaned_data, pk=pk)
        shown = NewAccessTokenSerializer(row, context={**self.get_serializer_context(), "token": token})
        return Response(shown.data, status=201)

    def _assignment(self) -> Assignment:
        mine = tenant_of(self.request).assignments.select_related("tenant", "owner")
        return get_object_or_404(mine, pk=self.kwargs["id"])


class _ProgramsTokenForm(tokens.NewTokenForm):
    """What programs say of a new token: until which moment it lives."""

    expires_at = forms.DateTimeField(required=False)

    def clean_expires_at(self) -> Any:
        """Return the moment; raises ValidationError for one that is not allowed."""
        self.check_end(self.cleaned_data["expires_at"], self.longest)
        return self.cleaned_data["expires_at"]


class RevokeToken(KnownQuery):
    """One token of the organization."""

    parameters = ("calls_go_on",)
    permission_classes = [IsPerson]

    @extend_schema(
        operation_id="tokens_revoke",
        summary="Revoke a token",
        responses={204: None},
        parameters=[
            OpenApiParameter(
                "calls_go_on", type=bool, description="`true` lets the calls that it began go on; else they are ended."
            )
        ],
    )
    def delete(self, request: Request, id: UUID) -> Response:  # noqa: A002 - the URL's own word
        """Revoke a token of an assignment that you may change, or one of your own; admins any of the organization.

        It makes no call from now on. Revoking it again changes nothing but its calls.
        """
        goes_on = _YES_OR_NO.get(request.query_params.get("calls_go_on", "false"))
        if goes_on is None:
            raise ParseError("`calls_go_on` is true or false.")
        user, tenant = person_of(request), tenant_of(request)
        rows = AccessToken.objects.of(tenant.pk).select_related("assignment__tenant", "membership__tenant")
        if not _is_admin(request):
            rows = rows.filter(Q(membership__user=user) | Q(assignment__isnull=False))
        token = get_object_or_404(rows, pk=id)
        if token.assignment is not None:
            changeable(request, token.assignment)
        tokens.revoke(token, user, calls_go_on=goes_on)
        return Response(status=204)


def person_of(request: Request) -> User:
    """Return whose token this is."""
    return get_object_or_404(User, pk=principal_of(request).user_id)


def changeable(request: Request, assignment: Assignment) -> Assignment:
    """Return the assignment; raises MayNotChangeAssignment for who may only look at it."""
    if not assignments.may_change(person_of(request), assignment):
        raise MayNotChangeAssignment
    return assignment


def _is_admin(request: Request) -> bool:
    return principal_of(request).role == Role.ADMIN


def _tools(names: list[str], tenant: Tenant, before: Assignment | None) -> list[UUID]:
    """Return the tools that are named; raises Invalid for names of none, each with those that are near."""
    rows = assignments.choosable(tenant, before)
    found = dict(rows.filter(public_name__in=names).values_list("public_name", "pk")) if names else {}
    if unknown := [(number, name) for number, name in enumerate(names) if name not in found]:
        known = list(rows.values_list("public_name", flat=True)[:_COMPARED])
        told = enumerate(unknown[: problems.MOST_FAULTS])
        raise problems.Invalid([_no_tool(*one, known if turn < _HINTS else []) for turn, one in told])
    return [found[name] for name in names]


def _no_tool(number: int, name: str, known: list[str]) -> members.Fault:
    hint = f" Near it: {', '.join(others)}." if (others := near(name, known)) else ""
    return {
        "pointer": f"/tools/{number}",
        "code": "unknown_tool",
        "detail": f"There is no tool of this name here.{hint}",
    }


def _owner(given: dict[str, Any], tenant: Tenant, before: Assignment | None, user: User) -> Membership | None:
    """Return who is to own it, None for nobody else than now; raises Invalid for who cannot, or may not be chosen."""
    now = acting.owner_of(before) if before is not None else None
    name: str | None = given.get("owner")
    if "owner" not in given or name == (now.user.get_username() if now else None):
        return now
    if name is None:
        raise problems.Invalid([members.fault("owner", "required", "It keeps its owner until it gets another one.")])
    if user.roles.get(tenant.pk) != Role.ADMIN and not (before is None and name == user.get_username()):
        raise problems.Invalid([members.fault("owner", "forbidden", "Only an admin chooses the owner.")])
    chosen = acting.may_own(tenant).filter(user__username=name).first()
    if chosen is None:
        sentence = "Nobody of that name may own assignments in this organization."
        raise problems.Invalid([members.fault("owner", "unknown_owner", sentence)])
    return chosen


def _refusal(faults: dict[str, list[ValidationError]]) -> Exception:
    """Return the error for the faults of the form."""
    for fault in (fault for errors in faults.values() for fault in errors if fault.code == IN_THE_OWNERS_NAME):
        return ActingRefused(fault.messages[0])
    return problems.Invalid.of(faults)

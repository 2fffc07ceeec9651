"""The REST views of the tools, calls, quotas and connections of the caller's tenant."""

from __future__ import annotations

from codecs import BOM_UTF8
from contextlib import suppress
from functools import partial
from typing import Any, cast
from uuid import UUID

import orjson
from django.core.exceptions import ValidationError
from django.db import DataError, transaction
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from connections import audit, checking, deleting, egress
from connections.errors import SecretOfAnotherServer
from connections.forms import ConnectionForm, Superseded
from connections.models import Connection, Credential, Role, Tenant, User
from tools.api import conditional, members, problems
from tools.api.authentication import IsAdminToChange, IsAssignment
from tools.api.connection_serializers import ConnectionChangeSerializer, ConnectionSerializer, QuotasSerializer
from tools.api.queries import PAGES, KnownQuery
from tools.api.serializers import CallSummarySerializer, ToolSerializer
from tools.callers import Principal
from tools.calls import offers, usage
from tools.models import Assignment, Call, Tool
from tools.models.call_states import CallState
from tools.models.catalog import ToolQuerySet

_TRIES = 10  # of a change while others change it too; each time at least one of them succeeds
ETAG = OpenApiParameter(
    "ETag", location=OpenApiParameter.HEADER, response=[200, 201, 202],
    description="The revision of the settings, for `If-Match`; the states move without it.",
)  # fmt: skip
IF_MATCH = OpenApiParameter(
    "If-Match", location=OpenApiParameter.HEADER,
    description="The `ETag` that you have seen: when the settings are others by now, nothing is done (412).",
)  # fmt: skip

_EXAMPLE = {"name": "Orders", "server_url": "https://mcp.example.com/mcp", "api_key": "…"}
LARGEST_SETTINGS = 256 * 1024  # bytes of a connection's settings; parsing as many takes 25 ms at most


class Pages(CursorPagination):
    """Cursor pages, `?limit=` up to 200."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        """Return the page; raises NotFound for an invalid cursor."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, ValidationError, DataError) as error:  # it has no valid time, or contains a NUL
            raise NotFound(self.invalid_cursor_message) from error

    def get_page_size(self, request: Request) -> int:
        """Return how many rows a page has; raises ParseError for a limit that is out of bounds."""
        given = request.query_params.get("limit", str(self.page_size))
        if not (given.isascii() and given.isdigit() and 1 <= int(given[:9]) <= self.max_page_size):
            raise ParseError(f"`limit` is a whole number from 1 to {self.max_page_size}.")
        return int(given)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe a page in the words of JSON Schema 2020-12."""
        address = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": address, "previous": address, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Describe `cursor` and `limit`."""
        bounds = {"type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        return [
            {"name": "cursor", "in": "query", "required": False, "schema": {"type": "string"},
             "description": "Taken from `next` or `previous`."},
            {"name": "limit", "in": "query", "required": False, "schema": bounds, "description": "Rows per page."},
        ]  # fmt: skip


class Body(BaseParser):
    """Parses JSON as the call path does: strict, in UTF-8, with a limit to nesting."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """Return the parsed body, with or without a byte order mark; raises Malformed and TooLarge."""
        body = stream.read(LARGEST_SETTINGS + 1)
        if len(body) > LARGEST_SETTINGS:
            raise problems.TooLarge(f"The body is larger than {LARGEST_SETTINGS // 1024} KB.")
        try:
            return orjson.loads(body.removeprefix(BOM_UTF8))
        except orjson.JSONDecodeError as error:
            raise problems.malformed(body) from error


class ByName(Pages):
    """Pages of tools, by name."""

    ordering = ("public_name", "id")


class ByAge(Pages):
    """Pages of connections, oldest first."""

    ordering = ("created_at", "id")


class Newest(Pages):
    """Pages with the newest first."""

    ordering = ("-created_at", "-id")


def principal_of(request: Request) -> Principal:
    """Return who calls."""
    return cast("Principal", request.user)


def tenant_of(request: Request) -> Tenant:
    """Return the caller's tenant: where every query starts."""
    return get_object_or_404(Tenant, pk=principal_of(request).tenant_id)


def assignment_of(request: Request) -> Assignment:
    """Return the calling assignment."""
    return get_object_or_404(tenant_of(request).assignments, pk=principal_of(request).assignment_id)


def connections_of(request: Request) -> QuerySet[Connection]:
    """Return the connections that the caller reads: of its organization; for an assignment those behind its tools."""
    connections = tenant_of(request).connections.all()
    if principal_of(request).assignment_id is None:
        return connections
    assignment = assignment_of(request)
    if assignment.scope == Assignment.Scope.ALL:
        return connections
    return connections.filter(tools__assignments=assignment).distinct()


def tools_of(request: Request) -> ToolQuerySet:
    """Return the tools that the caller was given; a person reads those from which an assignment may be given some."""
    if principal_of(request).assignment_id is not None:
        return assignment_of(request).granted_tools()
    return Tool.objects.filter(connection__tenant=principal_of(request).tenant_id)


class ToolList(KnownQuery, ListAPIView[Tool]):
    """The tools that this assignment may use now; with a person's own token, those in use of the organization."""

    parameters = PAGES
    serializer_class = ToolSerializer
    pagination_class = ByName

    def get_queryset(self) -> QuerySet[Tool]:
        """Return the usable tools among those it was given."""
        if getattr(self, "swagger_fake_view", False):
            return Tool.objects.none()
        return tools_of(self.request).usable().defer("definition")


class ToolDetail(KnownQuery, RetrieveAPIView[Tool]):
    """One tool of this assignment, or, to a person, of the organization."""

    serializer_class = ToolSerializer

    def get_object(self) -> Tool:
        """Return the tool; raises ToolNotFound, and ToolSetAside, with the reason in its code."""
        given, name = tools_of(self.request), self.kwargs["name"]
        tool = given.filter(connection__enabled=True, public_name=name).first()
        if tool is None:
            raise offers.not_found(principal_of(self.request).tenant_id, given, name)
        if not tool.availability.usable:
            raise offers.set_aside(tool)
        return tool


class Quotas(KnownQuery):
    """The quotas of the caller's organization."""

    @extend_schema(operation_id="quotas_retrieve", responses=QuotasSerializer)
    def get(self, request: Request) -> Response:
        """Say how much there is of each thing that is bounded, and how much there may be."""
        uses = [use._asdict() for use in usage.of(tenant_of(request))]
        return Response(QuotasSerializer({"quotas": uses}).data)


class CallList(KnownQuery, ListAPIView[Call]):
    """The calls of this assignment, newest first, without their results."""

    parameters = (*PAGES, "state", "tool")
    permission_classes = [IsAssignment]
    serializer_class = CallSummarySerializer
    pagination_class = Newest

    @extend_schema(
        parameters=[
            OpenApiParameter("state", enum=CallState.values, description="Only calls in this state."),
            OpenApiParameter("tool", description="Only calls of the tool with this name."),
        ]
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List them, page by page."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Call]:
        """Return the assignment's own calls that fit the filters; raises ParseError for a state that is none."""
        if getattr(self, "swagger_fake_view", False):
            return Call.objects.none()
        assignment = assignment_of(self.request)
        found = Call.objects.filter(assignment=assignment).defer(*Call.sealed_fields)
        asked = self.request.query_params
        if state := asked.get("state"):
            if state not in CallState.values:
                raise ParseError(f"There is no such state. The states are {', '.join(CallState.values)}.")
            found = found.in_state(CallState(state))
        if tool := asked.get("tool"):
            found = found.of_tool(tool, Tool.objects.filter(connection__tenant=assignment.tenant_id))
        return found


@extend_schema_view(
    list=extend_schema(description="The connections of the caller's organization, with their states."),
)
class Connections(KnownQuery, ReadOnlyModelViewSet[Connection]):
    """Connections: every token reads, an organization admin's token changes."""

    parameters = PAGES
    permission_classes = [IsAdminToChange]
    parser_classes = [Body]
    serializer_class = ConnectionSerializer
    pagination_class = ByAge
    lookup_field = "id"
    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[Connection]:
        """Return the tenant's connections; for an assignment only those behind its tools."""
        if getattr(self, "swagger_fake_view", False):
            return Connection.objects.none()
        return connections_of(self.request)

    @extend_schema(description="One connection.", parameters=[ETAG])
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Show it, with the tag of its settings."""
        return self._shown(self.get_object())

    @extend_schema(
        summary="Add a connection",
        request=ConnectionChangeSerializer,
        responses={201: ConnectionSerializer},
        parameters=[ETAG],
        examples=[OpenApiExample("A server that wants a key", _EXAMPLE, request_only=True)],
    )
    def create(self, request: Request) -> Response:
        """Add a connection; a probe starts at once, its result shows in the states."""
        return self._shown(self._save(request, None), status=201)

    @extend_schema(
        request=ConnectionChangeSerializer(partial=True), responses=ConnectionSerializer, parameters=[ETAG, IF_MATCH]
    )
    def partial_update(self, request: Request, id: UUID) -> Response:  # noqa: A002 - the URL's own word
        """Change a connection; what is left out stays, secrets included.

        Of two who change it at once the second is judged on what the first has left; with `If-Match` it is refused.
        """
        first: Connection = self.get_object()
        connection = first
        for _ in range(_TRIES):
            conditional.check(request, connection)
            with suppress(Superseded):
                return self._shown(self._save(request, connection, asked_of=first.server_url))
            connection = self.get_object()
        raise Superseded

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request: Request, id: UUID) -> Response:  # noqa: A002
        """Delete a connection with its secrets and tools; its calls stay."""
        conditional.check(request, connection := self.get_object())
        deleting.let_go(Connection.objects.filter(pk=connection.pk))
        deleting.carry_out(partial(self._delete, request))
        return Response(status=204)

    def _delete(self, request: Request) -> None:
        connection = self._held()
        conditional.check(request, connection)
        audit.record(self._user(request), "connection.deleted", connection, tenant=connection.tenant)
        connection.delete()

    @extend_schema(request=None, responses={202: ConnectionSerializer}, parameters=[ETAG, IF_MATCH])
    @action(detail=True, methods=["post"])
    @transaction.atomic
    def probe(self, request: Request, id: UUID) -> Response:  # noqa: A002
        """Check the connection now; the result shows in its states."""
        connection = self._held()
        conditional.check(request, connection)
        checking.request_check(connection)
        return self._shown(connection, status=202)

    def _held(self) -> Connection:
        """Return the connection with its row locked: nobody changes it before this transaction ends."""
        connection = self.get_object()
        return get_object_or_404(Connection.objects.select_for_update(), pk=connection.pk)

    def get_serializer_context(self) -> dict[str, Any]:
        """Say whether the caller may see whole addresses: a query string may hold a secret."""
        principal = principal_of(self.request) if self.request else None
        return {**super().get_serializer_context(), "whole_address": getattr(principal, "role", None) == Role.ADMIN}

    def _shown(self, connection: Connection, status: int = 200) -> Response:
        return conditional.tagged(Response(self.get_serializer(connection).data, status=status), connection)

    def _save(self, request: Request, connection: Connection | None, *, asked_of: str = "") -> Connection:
        shape = ConnectionChangeSerializer(data=request.data, partial=connection is not None)
        shape.is_valid(raise_exception=True)
        given: dict[str, Any] = shape.validated_data
        before = ConnectionForm.data_of(connection or Connection(authorization="none"))
        given["authorization"] = members.method_of(given, connection.authorization if connection else None)
        faults = list(members.misfits(given, given["authorization"], before))
        if connection is not None and given.get("slug", connection.slug) != connection.slug:
            faults.append(members.fault("slug", "read_only", "“slug” is only read: leave it out."))
        if faults:
            raise problems.Invalid(faults)
        given["tool_prefix"] = given.pop("slug", "")
        if connection is not None and egress.origin(connection.server_url) != egress.origin(asked_of):
            _refuse_secrets_of(asked_of, given)
        before = before if connection else {"enabled": True}
        form = ConnectionForm(before | given, instance=connection, tenant=tenant_of(request), user=self._user(request))
        if not form.is_valid():
            raise _invalid(form.errors.as_data())
        try:
            return form.save()
        except ValidationError as late:  # somebody was quicker with the same name
            raise _invalid(late.error_dict) from late

    @staticmethod
    def _user(request: Request) -> User:
        return get_object_or_404(User, pk=principal_of(request).user_id)


def _invalid(faults: dict[str, list[ValidationError]]) -> problems.Invalid:
    """Return the error for the faults of the form, where the slug is called tool_prefix."""
    return problems.Invalid.of({{"tool_prefix": "slug"}.get(field, field): errors for field, errors in faults.items()})


def _refuse_secrets_of(server_url: str, given: dict[str, Any]) -> None:
    """Raise Invalid for secrets that were sent for a server from which the connection has moved at this moment."""
    secrets = [kind for kind in Credential.Kind.values if given.get(kind)]
    if secrets and "server_url" not in given:
        sentence = (
            f"The connection was moved to another server at this moment; this was sent for {egress.bare(server_url)}."
        )
        code = SecretOfAnotherServer.code
        raise problems.Invalid([{"pointer": f"/{kind}", "code": code, "detail": sentence} for kind in secrets])

"""The REST doors for programs: tools, calls and connections of the caller's tenant."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import orjson
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from connections import audit, checking
from connections.forms import ConnectionForm
from connections.models import Connection, Tenant, User
from tools import offers, problems
from tools.authentication import IsAdminToChange, IsAssignment, Principal
from tools.models import Assignment, Call, Tool
from tools.models.moves import CallState
from tools.serializers import CallSummarySerializer, ConnectionChangeSerializer, ConnectionSerializer, ToolSerializer


class Pages(CursorPagination):
    """Cursor pages, `?limit=` up to 200."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        """Return the page; raises NotFound for a cursor that was made up."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, ValidationError, DataError) as error:  # it names no moment, or holds a NUL
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
    """JSON as the call path takes it: strict, in UTF-8, not nested without end."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """Return what the body says; raises Malformed and TooLarge."""
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(most + 1)
        if len(body) > most:
            raise problems.TooLarge
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise problems.Malformed from error


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


class ToolList(ListAPIView[Tool]):
    """The tools that this assignment may use now."""

    permission_classes = [IsAssignment]
    serializer_class = ToolSerializer
    pagination_class = ByName

    def get_queryset(self) -> QuerySet[Tool]:
        """Return the usable tools among those it was given."""
        if getattr(self, "swagger_fake_view", False):
            return Tool.objects.none()
        return assignment_of(self.request).granted_tools().usable()


class ToolDetail(RetrieveAPIView[Tool]):
    """One tool of this assignment."""

    permission_classes = [IsAssignment]
    serializer_class = ToolSerializer

    def get_object(self) -> Tool:
        """Return the tool; raises ToolSetAside, with the reason in its code, when it may not be used now."""
        tools = assignment_of(self.request).granted_tools().filter(connection__enabled=True)
        tool: Tool = get_object_or_404(tools, public_name=self.kwargs["name"])
        if not tool.standing.usable:
            raise offers.set_aside(tool)
        return tool


class CallList(ListAPIView[Call]):
    """The calls of this assignment, newest first, without their results."""

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
        found = assignment_of(self.request).calls.defer("sealed_arguments", "sealed_result")
        asked = self.request.query_params
        if state := asked.get("state"):
            if state not in CallState.values:
                raise ParseError(f"There is no such state. The states are {', '.join(CallState.values)}.")
            found = found.filter(state=state)
        return found.filter(tool_name=asked["tool"]) if asked.get("tool") else found


@extend_schema_view(
    list=extend_schema(description="The connections of the caller's organization, with their states."),
    retrieve=extend_schema(description="One connection."),
)
class Connections(ReadOnlyModelViewSet[Connection]):
    """Connections: every token reads, an organization admin's token changes."""

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
        connections = tenant_of(self.request).connections.all()
        if principal_of(self.request).assignment_id is None:
            return connections
        assignment = assignment_of(self.request)
        if assignment.scope == Assignment.Scope.ALL:
            return connections
        return connections.filter(tools__assignments=assignment).distinct()

    @extend_schema(request=ConnectionChangeSerializer, responses={201: ConnectionSerializer})
    def create(self, request: Request) -> Response:
        """Add a connection; a probe starts at once, its result shows in the states."""
        connection = self._save(request, None, partial=False)
        return Response(self.get_serializer(connection).data, status=201)

    @extend_schema(request=ConnectionChangeSerializer(partial=True), responses=ConnectionSerializer)
    def partial_update(self, request: Request, id: UUID) -> Response:  # noqa: A002 - the URL's own word
        """Change a connection; what is left out stays, secrets included."""
        connection = self._save(request, self.get_object(), partial=True)
        return Response(self.get_serializer(connection).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, id: UUID) -> Response:  # noqa: A002
        """Delete a connection with its secrets and tools; its calls stay."""
        connection = self.get_object()
        audit.record(self._user(request), "connection.deleted", connection, tenant=connection.tenant)
        connection.delete()
        return Response(status=204)

    @extend_schema(request=None, responses={202: ConnectionSerializer})
    @action(detail=True, methods=["post"])
    def probe(self, request: Request, id: UUID) -> Response:  # noqa: A002
        """Check the connection now; the result shows in its states."""
        connection = self.get_object()
        checking.ask(connection)
        return Response(self.get_serializer(connection).data, status=202)

    def _save(self, request: Request, connection: Connection | None, *, partial: bool) -> Connection:
        shape = ConnectionChangeSerializer(data=request.data, partial=partial)
        shape.is_valid(raise_exception=True)
        given: dict[str, Any] = shape.validated_data
        before = ConnectionForm.data_of(connection) if connection else {"authorization": "none", "enabled": True}
        form = ConnectionForm(before | given, instance=connection, tenant=tenant_of(request), user=self._user(request))
        if not form.is_valid():
            raise problems.Invalid.of(form.errors.as_data())
        try:
            return form.save()
        except ValidationError as late:  # somebody was quicker with the same name
            raise problems.Invalid.of(late.error_dict) from late

    @staticmethod
    def _user(request: Request) -> User:
        return get_object_or_404(User, pk=principal_of(request).user_id)

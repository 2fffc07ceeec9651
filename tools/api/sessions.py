"""The sessions of an assignment at servers that remember: named by the program, looked at, and ended."""

from __future__ import annotations

import re
from typing import Any, Final

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from connections.errors import DuvoError
from tools.api.authentication import IsAssignment
from tools.api.queries import PAGES, KnownQuery
from tools.api.serializers import SessionSerializer
from tools.api.views import ByAge, assignment_of
from tools.calls.sessions import ending
from tools.models import McpSession
from tools.models.sessions import NAME_LENGTH, SessionEnd

HEADER: Final = "Duvo-Session"
PATTERN: Final = rf"^[!-~]{{1,{NAME_LENGTH}}}$"
_NAME: Final = re.compile(rf"[!-~]{{1,{NAME_LENGTH}}}")


class BadSessionName(DuvoError):
    """Send a Duvo-Session of 1 to 128 visible ASCII characters."""

    code = "session_name_invalid"


def name_of(header: str | None) -> str:
    """Return the name of a session as the header gives it, "" without one; raises BadSessionName."""
    if header is None:
        return ""
    if not _NAME.fullmatch(name := header.strip()):
        raise BadSessionName
    return name


class Sessions(KnownQuery, ListAPIView[McpSession]):
    """The live sessions of this assignment, oldest first."""

    parameters = PAGES
    permission_classes = [IsAssignment]
    serializer_class = SessionSerializer
    pagination_class = ByAge

    def get_queryset(self) -> QuerySet[McpSession]:
        """Return those that calls may go on in."""
        if getattr(self, "swagger_fake_view", False):
            return McpSession.objects.none()
        mine: QuerySet[McpSession] = (
            McpSession.objects.live().valid().filter(assignment=assignment_of(self.request), opened_at__isnull=False)
        )
        return mine.select_related("connection")

    @extend_schema(operation_id="sessions_end_own", responses={204: None})
    def delete(self, request: Request) -> Response:
        """End the assignment's own session at every connection, if it has any; their servers are told."""
        _end(request, "")
        return Response(status=204)


class NamedSession(KnownQuery):
    """The sessions of one name."""

    permission_classes = [IsAssignment]

    @extend_schema(operation_id="sessions_end", responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        """End the sessions of this name at every connection; their servers are told."""
        if not _end(request, name):
            raise NotFound
        return Response(status=204)


def _end(request: Request, name: str) -> int:
    mine: Any = McpSession.objects.filter(assignment=assignment_of(request), name=name)
    return ending.end(mine, SessionEnd.PROGRAM)

"""The view of stored contents, which were too large for a result: bytes of a server, which no browser may execute."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import Any, cast
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.cache import get_conditional_response
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request

from connections.errors import SealBroken
from tools.api import problems
from tools.api.authentication import IsAssignment
from tools.api.queries import KnownQuery
from tools.api.serializers import ProblemSerializer
from tools.api.views import assignment_of
from tools.callers import Principal
from tools.calls import acting, contents
from tools.errors import ContentLost
from tools.models import StoredContent


class CallContent(KnownQuery):
    """One stored content of a call of this assignment."""

    permission_classes = [IsAssignment]

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Give what there is, whatever type is asked for; problems are JSON."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        operation_id="calls_contents_retrieve",
        parameters=[OpenApiParameter("If-None-Match", location=OpenApiParameter.HEADER, description="The `ETag`.")],
        responses={
            (200, "*/*"): OpenApiResponse(OpenApiTypes.BINARY, description="The bytes, with the type the server gave."),
            304: OpenApiResponse(description="You have it."),
            (410, problems.CONTENT_TYPE): OpenApiResponse(ProblemSerializer, description="It can no longer be opened."),
        },
    )
    def get(self, request: Request, id: UUID, number: int) -> HttpResponse:  # noqa: A002 - the URL's own word
        """Fetch a content that a result links to; `ETag` is its SHA-256 in hex, `Repr-Digest` the same (RFC 9530)."""
        call = get_object_or_404(assignment_of(request).calls.only("tenant_id", "token", "connection"), pk=id)
        acting.check_access(cast("Principal", request.user).token_id, call)
        content = get_object_or_404(call.contents, number=number)
        return attachment(request, content)


def attachment(request: Request | HttpRequest, content: StoredContent, data: bytes | None = None) -> HttpResponse:
    """Return a stored content (opened, unless `data` is given) as a download; raises ContentLost.

    Type and bytes come from an untrusted server: the headers make browsers save it, and neither show nor execute it.
    """
    data = _opened(content) if data is None else data
    digest = sha256(data)
    etag = f'"{digest.hexdigest()}"'
    answer = get_conditional_response(request, etag=etag)
    if answer is None:
        answer = HttpResponse(data)
        answer["Content-Type"] = _with_charset(content.media_type, answer.content)
        answer["Content-Disposition"] = f'attachment; filename="{content.call_id}-{content.number}"'
        answer["Repr-Digest"] = f"sha-256=:{b64encode(digest.digest()).decode()}:"
        answer["X-Content-Type-Options"] = "nosniff"
        answer["Content-Security-Policy"] = "sandbox; default-src 'none'"
    answer["ETag"] = etag
    answer["Cache-Control"] = "private, no-store"
    return answer


def whole(name: str, text: bytes) -> HttpResponse:
    """Return JSON as a download, which no browser shows."""
    answer = HttpResponse(text, content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, no-store"
    return answer


def _opened(content: StoredContent) -> bytes:
    try:
        return contents.opened(content)
    except SealBroken as broken:
        raise ContentLost from broken


def _with_charset(media_type: str, data: bytes) -> str:
    """Return the media type, for a text with its charset if the bytes are valid UTF-8."""
    if not media_type.startswith("text/") or "charset" in media_type.lower():
        return media_type
    try:
        data.decode()
    except UnicodeDecodeError:
        return media_type
    return f"{media_type}; charset=utf-8"

"""The door of the call path: async from socket to socket, documented like every other view.

It is a DRF view in name, class and OpenAPI, but its `dispatch` runs on the event loop and does only what a call needs:
a waiting call holds no thread. `duvo.asgi` brings requests here without the middleware that pages need.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.views import APIView

from connections.context import request_id
from connections.errors import DuvoError
from tools import calls, prefer, problems, schemas
from tools.authentication import IsAssignment, principals, token_digest
from tools.serializers import ArgumentsSerializer, CallSerializer, call_body

logger = logging.getLogger(__name__)


class CallTool(APIView):
    """Call a tool and wait for its result."""

    permission_classes = [IsAssignment]

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        """Answer one request; every error is a problem."""
        if request.method != "POST":
            body = problems.problem(405, "method_not_allowed", "Calls are made with POST.")
            return _answer(body, 405, {"Allow": "POST"})
        try:
            return await self.post(request, kwargs["name"])
        except DuvoError as error:
            return refuse(error)
        except Exception:
            logger.exception("A call failed inside")
            return problems.server_error()

    @extend_schema(
        operation_id="tools_call",
        request=ArgumentsSerializer,
        responses={200: CallSerializer, 202: OpenApiResponse(CallSerializer, description="Not finished yet.")},
        parameters=[
            OpenApiParameter(
                "Prefer",
                location=OpenApiParameter.HEADER,
                description="`wait=N` waits up to N seconds (default 30, at most 300); `respond-async` does not wait.",
            )
        ],
    )
    async def post(self, request: HttpRequest, name: str) -> HttpResponse:
        """Call a tool. A tool's own error is a 200 with `is_error`; everything else that goes wrong is a problem.

        What is not finished in time goes on and is answered with 202 and the call's address.
        """
        digest = token_digest(request.headers.get("Authorization"))
        principal = await principals.get(digest) if digest else None
        if principal is None:
            return _answer(problems.unauthenticated(), 401, {"WWW-Authenticate": 'Bearer realm="duvo"'})
        if principal.assignment_id is None:
            return _answer(problems.problem(403, "forbidden", IsAssignment.message), 403)
        arguments = _arguments(request)
        preference = prefer.parse(request.headers.get("Prefer"))
        report = await calls.start(
            principal,
            name,
            arguments,
            wait=preference.wait if preference else prefer.DEFAULT_WAIT,
            in_worker=preference is not None and preference.respond_async,
        )
        headers = {"Preference-Applied": preference.applied()} if preference else {}
        return _report(report, headers)


def refuse(error: DuvoError) -> HttpResponse:
    """Return the problem that an error becomes."""
    body, headers = problems.of(error)
    return _answer(body, body["status"], headers)


def _arguments(request: HttpRequest) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise problems.Unsupported
    try:
        body = orjson.loads(request.body or b"{}")
    except orjson.JSONDecodeError as error:
        raise problems.Malformed from error
    if not isinstance(body, dict):
        raise problems.Invalid([{"pointer": "", "code": "type", "detail": "The body is not a JSON object."}])
    unknown = [
        {
            "pointer": schemas.pointer([key]),
            "code": "unknown",
            "detail": "There is no such member; send only `arguments`.",
        }
        for key in body
        if key != "arguments"
    ]
    arguments = body.get("arguments", {})
    if not isinstance(arguments, dict):
        unknown.append({"pointer": "/arguments", "code": "type", "detail": "The arguments are not a JSON object."})
    if unknown:
        raise problems.Invalid(unknown)
    return dict(arguments)


def _report(report: calls.Report, headers: dict[str, str]) -> HttpResponse:
    if report.error is not None:
        body, more = problems.of(report.error)
        return _answer(body | {"call": str(report.id)}, body["status"], headers | more)
    body = call_body(report.id, report.tool, report.state, report.created_at, report.finished_at, report.result, None)
    if report.finished_at is not None:
        return _answer(body, 200, headers)
    location = f"{settings.PUBLIC_URL}/v1/calls/{report.id}"
    return _answer(body, 202, headers | {"Location": location, "Retry-After": "1"})


def _answer(body: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    kind = problems.CONTENT_TYPE if status >= 400 else "application/json"  # noqa: PLR2004
    answer = HttpResponse(orjson.dumps(body), status=status, content_type=kind, headers=headers)
    answer["Cache-Control"] = "no-store"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["X-Request-ID"] = request_id.get()
    return answer

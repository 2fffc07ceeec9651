"""The doors of the call path: async from socket to socket, documented like every other view.

They are DRF views in name, class and OpenAPI, but their `dispatch` runs on the event loop and does only what a call
needs: a waiting caller holds no thread. `duvo.asgi` brings requests here without the middleware that pages need.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar, cast

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.views import APIView

from connections.context import request_id
from connections.errors import DuvoError
from connections.threads import in_thread
from tools import calls, prefer, problems, schemas
from tools.authentication import IsAssignment, Principal, principals, token_digest
from tools.errors import CallNotFound
from tools.models import Call
from tools.serializers import ArgumentsSerializer, CallSerializer, call_body

CANCEL_WAIT = 2.0  # seconds that a cancel waits for the end, which comes within one

logger = logging.getLogger(__name__)


class Door(APIView):
    """A view for assignments on the event loop; every error is a problem."""

    permission_classes = [IsAssignment]
    method: ClassVar[str]
    principal: Principal

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        """Answer one request."""
        if request.method != self.method:
            body = problems.problem(405, "method_not_allowed", f"This address takes {self.method}.")
            return _answer(body, 405, {"Allow": self.method})
        try:
            digest = token_digest(request.headers.get("Authorization"))
            principal = await principals.get(digest) if digest else None
            if principal is None:
                return _answer(problems.unauthenticated(), 401, {"WWW-Authenticate": 'Bearer realm="duvo"'})
            if principal.assignment_id is None:
                return _answer(problems.problem(403, "forbidden", IsAssignment.message), 403)
            self.principal = principal
            return cast("HttpResponse", await getattr(self, self.method.lower())(request, **kwargs))
        except DuvoError as error:
            return refuse(error)
        except Exception:
            logger.exception("A call failed inside")
            return problems.server_error()


class CallTool(Door):
    """Call a tool and wait for its result."""

    method = "POST"

    @extend_schema(
        operation_id="tools_call",
        request=ArgumentsSerializer,
        responses={200: CallSerializer, 202: OpenApiResponse(CallSerializer, description="Not finished yet.")},
        parameters=[
            OpenApiParameter(
                "Prefer",
                location=OpenApiParameter.HEADER,
                description="`wait=N` waits up to N seconds (default 30, at most 300); `respond-async` does not wait.",
            ),
            OpenApiParameter(
                "Idempotency-Key",
                location=OpenApiParameter.HEADER,
                description="1 to 255 visible ASCII characters, kept for 24 hours: the same key with the same tool and "
                "arguments is the same call, also while it runs; with others it is refused.",
            ),
        ],
    )
    async def post(self, request: HttpRequest, name: str) -> HttpResponse:
        """Call a tool. A tool's own error is a 200 with `is_error`; everything else that goes wrong is a problem.

        What is not finished in time goes on and is answered with 202 and the call's address.
        """
        arguments = _arguments(request)
        preference = prefer.parse(request.headers.get("Prefer"))
        report = await calls.start(
            self.principal,
            name,
            arguments,
            wait=preference.wait if preference else prefer.DEFAULT_WAIT,
            in_worker=preference is not None and preference.respond_async,
            idempotency_key=request.headers.get("Idempotency-Key"),
        )
        return _report(report, {"Preference-Applied": preference.applied()} if preference else {})


class CallDetail(Door):
    """One call of this assignment."""

    method = "GET"

    @extend_schema(
        operation_id="calls_retrieve",
        responses=CallSerializer,
        parameters=[
            OpenApiParameter(
                "Prefer",
                location=OpenApiParameter.HEADER,
                description="`wait=N` answers when the call has ended, at the latest after N seconds (at most 300).",
            )
        ],
    )
    async def get(self, request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - the URL's own word
        """Look at a call, or wait for its end."""
        preference = prefer.parse(request.headers.get("Prefer"))
        call = await in_thread(_own, self.principal, id)
        report = await calls.follow(call, wait=preference.wait if preference and not preference.respond_async else 0)
        return _answer(_body(report), 200, {"Preference-Applied": preference.applied()} if preference else {})


class CancelCall(Door):
    """Cancel a call of this assignment."""

    method = "POST"

    @extend_schema(operation_id="calls_cancel", request=None, responses=CallSerializer)
    async def post(self, request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - the URL's own word
        """Cancel a call and see how it ended; one that has ended before stays as it is."""
        call = await in_thread(_own, self.principal, id)
        await in_thread(calls.cancel, call)
        call = await in_thread(_own, self.principal, id)
        return _answer(_body(await calls.follow(call, wait=CANCEL_WAIT)), 200)


def _own(principal: Principal, call_id: str) -> Call:
    call = Call.objects.filter(assignment=principal.assignment_id, tenant=principal.tenant_id, pk=call_id).first()
    if call is None:
        raise CallNotFound
    return call


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
    body = _body(report)
    if report.finished_at is not None:
        return _answer(body, 200, headers)
    location = f"{settings.PUBLIC_URL}/v1/calls/{report.id}"
    return _answer(body, 202, headers | {"Location": location, "Retry-After": "1"})


def _body(report: calls.Report) -> dict[str, Any]:
    error = {"code": report.error.code, "detail": report.error.sentence} if report.error else None
    return call_body(report.id, report.tool, report.state, report.created_at, report.finished_at, report.result, error)


def _answer(body: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    kind = problems.CONTENT_TYPE if status >= 400 else "application/json"  # noqa: PLR2004
    answer = HttpResponse(orjson.dumps(body), status=status, content_type=kind, headers=headers)
    answer["Cache-Control"] = "no-store"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["X-Request-ID"] = request_id.get()
    return answer

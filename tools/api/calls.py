"""The views of the call path: async from socket to socket, documented like every other view.

They are DRF views in class and OpenAPI, but their `dispatch` runs on the event loop and does only what a call needs: a
waiting caller holds no thread. `duvo.asgi` routes requests here without the middleware that pages need.
"""

from __future__ import annotations

import logging
import time
from codecs import BOM_UTF8
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, cast

import orjson
from django.conf import settings
from django.db import Error as DatabaseFailed
from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.views import APIView

from connections import offload, outages
from connections.clients import header_of
from connections.context import WHOSE, request_id
from connections.errors import DuvoError
from connections.telling import tell
from connections.threads import in_thread
from tools import callers
from tools.api import prefer, problems, queries, sessions
from tools.api.authentication import IsAssignment
from tools.api.serializers import ArgumentsSerializer, CallSerializer, InputSerializer, call_json
from tools.callers import Principal, principals, recognize, token_digest
from tools.calls import acting, answering, life, tracing
from tools.calls.ledger import LedgerUnavailable
from tools.calls.outcomes import Report
from tools.errors import CallerGone, CallNotFound, LimitReached, OrganizationSuspended, ProcessStopped
from tools.models import Call
from tools.payloads import untrusted
from tools.payloads.raw_json import Json, RawJson, read

LARGEST_RESPONSES = 256 * 1024  # bytes; parsing as many takes 25 ms at most, and forms have no files
REPLAYED = "Idempotency-Replayed"
CANCEL_WAIT = 2.0  # seconds that a cancel waits for the end, which comes within one
_A_WHILE = 1.0  # seconds after which the token is checked again before the response is sent

logger = logging.getLogger(__name__)


class AsyncView(APIView):
    """A view for assignments on the event loop; every error is a problem."""

    permission_classes = [IsAssignment]
    method: ClassVar[str]
    principal: Principal
    token_digest: str | None

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        """Answer one request."""
        if request.method != self.method:
            body = problems.problem(405, "method_not_allowed", f"This address takes {self.method}.")
            return answer(body, 405, {"Allow": self.method})
        digest = token_digest(header_of(request, "AUTHORIZATION"))
        try:
            principal = await self.recognize(digest, request) if digest else None
            if (turned_away := self._turned_away(principal)) is not None or principal is None or digest is None:
                return turned_away or _unauthenticated()
            queries.check(request, ())
            self.principal, self.token_digest = principal, digest
            vars(request).get("scope", {})[WHOSE] = principal.tenant_id
            began = time.monotonic()
            response = cast("HttpResponse", await getattr(self, self.method.lower())(request, **kwargs))
            if time.monotonic() - began > _A_WHILE:
                with suppress(DatabaseFailed):  # the call was made: its response is sent all the same
                    return self._turned_away(await principals.get(digest)) or response
        except CallerGone:
            callers.drop(digest or "")
            with suppress(DatabaseFailed):
                return self._turned_away(await principals.get(digest or "")) or _unauthenticated()
            return _unauthenticated()
        except DuvoError as error:
            tell(logger, "A request was refused.", code=error.code, cause=_name_of(error.__cause__))
            return await self._still_turned_away(digest, error) or refuse(error)
        except DatabaseFailed as failure:
            if outages.is_away(failure):  # once more for each request: without where it was found out
                tell(logger, "A request was refused: the database does not answer.", logging.ERROR)
            else:
                logger.exception("The database fails")
            return refuse(LedgerUnavailable("The database does not answer. Try again in a moment."))
        except Exception:
            logger.exception("A call failed inside")
            return problems.server_error()
        else:
            return response

    async def recognize(self, digest: str, request: HttpRequest) -> Principal | None:
        """Return the principal of a token, at most one second old."""
        return await recognize(digest, request)

    async def _still_turned_away(self, digest: str | None, error: DuvoError) -> HttpResponse | None:
        """Return what a caller gets instead of this error who was only presumed, and opened no call that checked it."""
        return None

    @staticmethod
    def _turned_away(principal: Principal | None) -> HttpResponse | None:
        """Return the response that refuses this caller, None for an assignment that may use tools."""
        if principal is None:
            return _unauthenticated()
        if principal.suspended:
            return refuse(OrganizationSuspended())
        if principal.assignment_id is None:
            return answer(problems.problem(403, "forbidden", IsAssignment.message), 403)
        return None


class PresumingView(AsyncView):
    """A view whose statement checks the token: who is known from some time ago need not be looked up before."""

    async def recognize(self, digest: str, request: HttpRequest) -> Principal | None:
        """Return the principal that the token had lately."""
        return callers.presumed(digest) or await recognize(digest, request)

    async def _still_turned_away(self, digest: str | None, error: DuvoError) -> HttpResponse | None:
        if digest is None or isinstance(error, LedgerUnavailable):  # the database would be waited for once more
            return None
        try:
            turned_away = self._turned_away(await principals.get(digest))
        except DatabaseFailed:
            return None
        if turned_away is not None:
            callers.drop(digest)
        return turned_away


class CallTool(PresumingView):
    """Call a tool and wait for its result."""

    method = "POST"

    @extend_schema(
        operation_id="tools_call",
        summary="Call a tool",
        examples=[OpenApiExample("How much is left", {"arguments": {"sku": "TEA-001"}}, request_only=True)],
        request=ArgumentsSerializer,
        responses={200: CallSerializer, 202: OpenApiResponse(CallSerializer, description="Not finished yet.")},
        parameters=[
            OpenApiParameter(
                "Prefer",
                location=OpenApiParameter.HEADER,
                description="`wait=N` waits up to N seconds (default 30, at most 300); `respond-async` does not wait. "
                "`wait-for-login` beside them: a call whose assignment's owner has not connected is answered with 202 "
                "and `login_required` instead of 503, and is made once the owner has connected.",
            ),
            OpenApiParameter(
                "Idempotency-Key",
                location=OpenApiParameter.HEADER,
                pattern=r'^(?!""$)[!-~]{1,255}$',
                description="1 to 255 visible ASCII characters, kept for 24 hours: the same key with the same tool and "
                "arguments is the same call, also while it runs; with others it is refused.",
            ),
            OpenApiParameter(
                REPLAYED,
                location=OpenApiParameter.HEADER,
                response=True,
                enum=["true"],
                description="The call was made before, with the same key; this request made none.",
            ),
            OpenApiParameter(
                sessions.HEADER,
                location=OpenApiParameter.HEADER,
                pattern=sessions.PATTERN,
                description="1 to 128 visible ASCII characters: a session of its own at a server that remembers. Calls "
                "without it share the assignment's own session. Servers that keep none ignore it.",
            ),
            OpenApiParameter(
                "traceparent",
                location=OpenApiParameter.HEADER,
                description="W3C Trace Context; kept with the call, and sent on where the connection allows it.",
            ),
        ],
    )
    async def post(self, request: HttpRequest, name: str) -> HttpResponse:
        """Call a tool. A tool's own error is a 200 with `is_error`; everything else that goes wrong is a problem.

        What is not finished in time, waits for an admin's approval or a login, or asks something is answered with 202
        and the call's address.
        """
        sentence = "The arguments are not a JSON object."
        arguments = await _member(request, "arguments", sentence, tenant=str(self.principal.tenant_id))
        preferred = header_of(request, "PREFER")
        preference, waits_for_login = prefer.parse(preferred), prefer.waits_for_login(preferred)
        at_once = preference is not None and preference.respond_async
        report = await life.start(
            self.principal,
            name,
            arguments,
            wait=0 if at_once else preference.wait if preference else prefer.DEFAULT_WAIT,
            in_worker=at_once,
            idempotency_key=header_of(request, "IDEMPOTENCY_KEY"),
            traceparent=tracing.parse(header_of(request, "TRACEPARENT")),
            session=sessions.name_of(header_of(request, "DUVO_SESSION")),
            waits_for_login=waits_for_login,
        )
        applied = ([preference.applied()] if preference else []) + ([prefer.LOGIN] if waits_for_login else [])
        headers = {"Preference-Applied": ", ".join(applied)} if applied else {}
        return _report(report, headers | ({REPLAYED: "true"} if report.replayed else {}))


class CallDetail(AsyncView):
    """One call of this assignment."""

    method = "GET"

    @extend_schema(
        operation_id="calls_retrieve",
        responses=CallSerializer,
        parameters=[
            OpenApiParameter(
                "Prefer",
                location=OpenApiParameter.HEADER,
                description="`wait=N` answers when the call has ended or asks something, at the latest after N seconds "
                "(at most 300).",
            )
        ],
    )
    async def get(self, request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - the URL's own word
        """Look at a call, or wait for its end."""
        return await _followed(
            request, await in_thread(own_call, self.principal, id, of=self.principal.tenant_id), self.principal
        )


class CancelCall(AsyncView):
    """Cancel a call of this assignment."""

    method = "POST"

    @extend_schema(operation_id="calls_cancel", request=None, responses=CallSerializer)
    async def post(self, request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - the URL's own word
        """Cancel a call and see how it ended; one that has ended before stays as it is."""
        call = await in_thread(own_call, self.principal, id, of=self.principal.tenant_id)
        await in_thread(life.cancel, call, of=call.tenant_id)
        call = await in_thread(own_call, self.principal, id, of=self.principal.tenant_id)
        report = await life.follow(call, wait=CANCEL_WAIT, to_the_end=True, by=self.principal.token_id)
        return answer(call_json(report), 200)


class AnswerCall(AsyncView):
    """Answer what a call of this assignment asks."""

    method = "POST"

    @extend_schema(operation_id="calls_input", request=InputSerializer, responses=CallSerializer)
    async def post(self, request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - the URL's own word
        """Answer every question of the call at once; it goes on, and `Prefer: wait=N` waits for what comes of it."""
        call = await in_thread(own_call, self.principal, id, of=self.principal.tenant_id)
        _check_type(request)
        if len(request.body) > LARGEST_RESPONSES:
            raise problems.TooLarge(f"The responses are larger than {LARGEST_RESPONSES // 1024} KB.")
        responses, asked = _members(
            _parsed(_text(request), orjson.loads), "responses", "The responses are not a JSON object.", also="id"
        )
        await answering.answer_here(call, responses, asked=asked)
        call = await in_thread(own_call, self.principal, id, of=self.principal.tenant_id)
        try:
            return await _followed(request, call, self.principal)
        except LimitReached:  # the answer is taken, and only waiting for the end is refused
            return answer(call_json(await life.follow(call, wait=0)), 200)


def own_call(principal: Principal, call_id: str) -> Call:
    """Return a call of this assignment; raises CallNotFound for every other.

    Raises ActingRefused for one that acts as the assignment's owner, where this token does not.
    """
    try:
        call = Call.objects.get(assignment=principal.assignment_id, tenant=principal.tenant_id, pk=call_id)
    except Call.DoesNotExist as error:
        raise CallNotFound from error
    acting.check_access(principal.token_id, call)
    return call


async def _followed(request: HttpRequest, call: Call, principal: Principal) -> HttpResponse:
    preference = prefer.parse(header_of(request, "PREFER"))
    wait = preference.wait if preference and not preference.respond_async else 0
    report = await life.follow(call, wait=wait, by=principal.token_id)
    return answer(call_json(report), 200, {"Preference-Applied": preference.applied()} if preference else {})


def _name_of(cause: BaseException | None) -> str:
    return type(cause).__name__ if cause is not None else ""


def _unauthenticated() -> HttpResponse:
    return answer(problems.unauthenticated(), 401, {"WWW-Authenticate": 'Bearer realm="duvo"'})


def refuse(error: DuvoError) -> HttpResponse:
    """Return the response that reports an error as a problem."""
    body, headers = problems.of(error)
    return answer(body, body["status"], headers)


async def _member(request: HttpRequest, name: str, not_an_object: str, *, tenant: str) -> Json:
    """Return the one member that the body may have, an object; that of a large body may be `RawJson`."""
    _check_type(request)
    text = _text(request)
    body = _parsed(text, read)
    if not isinstance(body, RawJson):
        return _members(body, name, not_an_object)[0]
    faults, member = await offload.run(
        "tools.offload_jobs:body", text, name.encode(), not_an_object.encode(), tenant=tenant
    )
    if not faults:
        raise problems.Malformed(member.decode() or None)
    if found := orjson.loads(faults):
        raise problems.Invalid(found)
    return read(member)  # type: ignore[no-any-return]


def _check_type(request: HttpRequest) -> None:
    if request.content_type != "application/json":
        raise problems.Unsupported


def _text(request: HttpRequest) -> bytes:
    """Return the body without the mark that some programs write before UTF-8 (RFC 8259, section 8.1)."""
    return request.body.removeprefix(BOM_UTF8)


def _parsed(text: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(text or b"{}")
    except ValueError as error:
        raise problems.malformed(text) from error


def _members(body: Any, name: str, not_an_object: str, *, also: str = "") -> tuple[dict[str, Any], str]:
    """Return the one member that a body may have, an object, and the text that it may have `also`."""
    if faults := untrusted.member_faults(body, name, not_an_object, also=also):
        raise problems.Invalid(faults)
    return dict(body.get(name, {})), str(body.get(also, "")) if also else ""


def _report(report: Report, headers: dict[str, str]) -> HttpResponse:
    address = f"{settings.PUBLIC_URL}/v1/calls/{report.id}"
    if report.error is not None:
        problem, more = problems.of(report.error)
        location = {"Location": address} if isinstance(report.error, ProcessStopped) else {}
        session = {} if report.session is None else {"session": report.session}
        members = problem | {"call": str(report.id)} | session
        return answer(members, problem["status"], headers | more | location)
    body = call_json(report)
    if report.finished_at is not None:
        return answer(body, 200, headers)
    return answer(body, 202, headers | {"Location": address, "Retry-After": "1"})


def answer(body: dict[str, Any] | bytes, status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    """Return a JSON response with the headers that each one has."""
    kind = problems.CONTENT_TYPE if status >= 400 else "application/json"  # noqa: PLR2004
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    answer = HttpResponse(text, status=status, content_type=kind, headers=headers)
    answer["Cache-Control"] = "no-store"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["X-Request-ID"] = request_id.get()
    return answer

"""Every error of the API as problem+json (RFC 9457) with a stable code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from itertools import islice
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, JsonResponse
from django.urls import reverse
from rest_framework import exceptions
from rest_framework.response import Response

from connections import deleting, offload
from connections.context import request_id
from connections.errors import DuvoError, Refused, TooManyTries, TryLater
from connections.forms import Superseded
from connections.quotas import QuotaReached
from tools.calls.ledger import LedgerUnavailable
from tools.errors import AnswersRefused, ArgumentsRefused, CallError, ToolNotFound
from tools.models import Call
from tools.models.assignments import AlreadyIssued
from tools.payloads import untrusted

CONTENT_TYPE = "application/problem+json"
MOST_FAULTS = 50  # named in one response: a body may have a million
_CODES = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.UNAUTHORIZED: "unauthenticated",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.NOT_ACCEPTABLE: "not_acceptable",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many_requests",
}


class Invalid(DuvoError):
    """The request's fields have faults, each named by a JSON Pointer (RFC 6901)."""

    code = "invalid"

    def __init__(self, errors: list[dict[str, str]]) -> None:
        """Take objects of pointer, code and detail."""
        super().__init__("The request has faults.")
        self.errors = errors[:MOST_FAULTS]

    @classmethod
    def of(cls, faults: Mapping[str, Iterable[ValidationError]]) -> Invalid:
        """Return the error for the faults of a form, by field; raises QuotaReached if that is one of them."""
        for fault in (fault for errors in faults.values() for fault in errors if fault.code == QuotaReached.code):
            raise QuotaReached(fault.messages[0])
        return cls(
            [
                {"pointer": "" if field == "__all__" else f"/{field}", "code": fault.code or "invalid", "detail": line}
                for field, errors in faults.items()
                for fault in errors
                for line in fault.messages
            ]
        )


class UnknownParameters(DuvoError):
    """The address has a query parameter that is not known here. Nothing was done."""

    code = "unknown_parameter"

    def __init__(self, errors: list[dict[str, str]]) -> None:
        """Take objects of parameter, code and detail, one for each of them."""
        names = ", ".join(f"“{error['parameter']}”" for error in errors[:5])
        super().__init__(f"The query parameter {names} is not known here. Nothing was done." if names else None)
        self.errors = errors


class Malformed(DuvoError):
    """The body is not JSON."""

    code = "malformed"


def malformed(body: bytes) -> Malformed:
    """Return the error about a body that could not be parsed, with the reason where that can be told."""
    return Malformed(untrusted.HALVES if untrusted.has_halves(body) else None)


class Unsupported(DuvoError):
    """Send the body as `application/json`."""

    code = "unsupported_media_type"


class TooLarge(DuvoError):
    """The body is larger than 5 MB."""

    code = "too_large"


class TooSlow(DuvoError):
    """The body took too long to arrive."""

    code = "too_slow"


class TooManyBodies(DuvoError):
    """Too much is being sent to this service at this moment. Try again in a few seconds."""

    code = "bodies_busy"


class NoWebSockets(DuvoError):
    """There are no WebSockets here."""

    code = "not_found"


class PreconditionFailed(DuvoError):
    """This has been changed since you looked at it (`If-Match`). Nothing was done; look at it again."""

    code = "precondition_failed"


class UnknownHost(DuvoError):
    """This service does not answer under that host name."""

    code = "unknown_host"


_STATUSES: dict[type[DuvoError], HTTPStatus] = {
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    Superseded: HTTPStatus.CONFLICT,
    AlreadyIssued: HTTPStatus.CONFLICT,
    Unsupported: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    TooManyBodies: HTTPStatus.SERVICE_UNAVAILABLE,
    NoWebSockets: HTTPStatus.NOT_FOUND,
    TooManyTries: HTTPStatus.TOO_MANY_REQUESTS,
    TryLater: HTTPStatus.SERVICE_UNAVAILABLE,
    LedgerUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    QuotaReached: HTTPStatus.FORBIDDEN,
    offload.TooMuchWork: HTTPStatus.UNPROCESSABLE_ENTITY,
    offload.Crowded: HTTPStatus.SERVICE_UNAVAILABLE,
    offload.Broken: HTTPStatus.SERVICE_UNAVAILABLE,
    Refused: HTTPStatus.UNPROCESSABLE_ENTITY,
}


def problem(status: int, code: str, detail: str, **more: Any) -> dict[str, Any]:
    """Return the members of a problem: type, title, status, code, detail, and more where there is more to say."""
    return {
        "type": f"{settings.PUBLIC_URL}{_errors_page()}#{code}",  # what the code means and what to do
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
        "request_id": request_id.get(),
        **more,
    }


def of(error: DuvoError) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the problem that an error of ours becomes, and the response headers that go with it."""
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    status: int = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 400)
    if isinstance(error, ArgumentsRefused | AnswersRefused):
        within = "/arguments" if isinstance(error, ArgumentsRefused) else "/responses"
        more["errors"] = [
            {"pointer": f"{within}{fault.pointer}"[:1_000], "code": "schema", "detail": fault.message}
            for fault in error.faults[:MOST_FAULTS]
        ]
    elif isinstance(error, Invalid | UnknownParameters):
        more["errors"] = error.errors
    elif isinstance(error, ToolNotFound) and error.near:
        more["near"] = error.near
    elif isinstance(error, AlreadyIssued):
        more["token_id"] = str(error.token_id)
    if isinstance(error, CallError):
        status = error.status
        if error.server_message:
            more["server_message"] = error.server_message
        if error.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif isinstance(error, TryLater):
        headers = {"Retry-After": str(math.ceil(error.retry_after))}
    elif isinstance(error, LedgerUnavailable | TooManyBodies | offload.Crowded | offload.Broken):
        headers = {"Retry-After": "1"}
    return problem(status, error.code, error.sentence, **more), headers


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response for what a view raised (DRF's EXCEPTION_HANDLER); None for a bug of ours (500)."""
    headers: dict[str, str] = {}
    if isinstance(error, DuvoError):
        body, headers = of(error)
    elif isinstance(error, exceptions.ValidationError):
        body = problem(
            422, "invalid", "The request has faults.", errors=list(islice(_faults(error.detail), MOST_FAULTS))
        )
    elif isinstance(error, Http404 | exceptions.NotFound | Call.DoesNotExist) or deleting.is_gone(error):
        body = problem(404, "not_found", "There is nothing here for you.")
    elif isinstance(error, PermissionDenied):
        body = problem(403, "forbidden", "You may not do this.")
    elif isinstance(error, exceptions.APIException):
        status = HTTPStatus(error.status_code)
        body = problem(status, _CODES.get(status, "error"), _detail(status, str(error.detail)))
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="duvo"'
        if wait := getattr(error, "wait", None):
            headers["Retry-After"] = str(math.ceil(wait))
    else:
        return None
    return Response(body, status=body["status"], headers=headers, content_type=CONTENT_TYPE)


def unauthenticated() -> dict[str, Any]:
    """Return the problem of a missing, unknown, expired or revoked token."""
    return problem(401, "unauthenticated", _detail(HTTPStatus.UNAUTHORIZED, ""))


def server_error() -> JsonResponse:
    """Return the response to a bug of ours; the log has the exception under the same request id."""
    body = problem(500, "internal_error", "Something went wrong on our side. The request id finds it in our logs.")
    return JsonResponse(body, status=500, content_type=CONTENT_TYPE)


@cache
def _errors_page() -> str:
    return reverse("help-page", args=["errors"])


def _detail(status: HTTPStatus, detail: str) -> str:
    if status == HTTPStatus.UNAUTHORIZED:
        return "Send a token that is known, not expired and not revoked as `Authorization: Bearer duvo_…`."
    return detail


def _faults(detail: Any, pointer: str = "") -> Any:
    if isinstance(detail, dict):
        for key, member in detail.items():
            yield from _faults(member, pointer if key == "non_field_errors" else f"{pointer}/{key}")
    elif isinstance(detail, list):
        for index, member in enumerate(detail):
            nested = isinstance(member, dict | list)
            yield from _faults(member, f"{pointer}/{index}" if nested else pointer)
    else:
        yield {"pointer": pointer, "code": str(getattr(detail, "code", "invalid")), "detail": str(detail)}

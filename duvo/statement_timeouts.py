"""The answer when a database statement timed out: 503 with a sentence instead of 500."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

from connections import statement_timeouts
from tools.api import problems

RETRY_AFTER = "5"  # seconds
ON_A_PAGE = (
    "There is too much to look through in the time that a page may take. Narrow the list with a filter or a shorter "
    "period, or try again in a moment."
)
SENTENCE = "The database took too long. Ask for less at a time, or try again in a moment."


class StatementTimeoutMiddleware(MiddlewareMixin):
    """Answers 503 when a statement timed out, for the API as a problem (RFC 9457)."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the answer; None for every other exception."""
        if not statement_timeouts.expired(exception):
            return None
        if request.path.startswith("/v1/"):
            body = problems.problem(503, "database_busy", SENTENCE)
            answer: HttpResponse = JsonResponse(body, status=503, content_type=problems.CONTENT_TYPE)
        else:
            answer = render(request, "wait.html", {"heading": "This took too long", "sentence": ON_A_PAGE}, status=503)
        answer["Retry-After"] = RETRY_AFTER
        return answer

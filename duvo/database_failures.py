"""The answers when the database does not answer, stores nothing or took too long: 503 and a sentence, not 500."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

from connections import outages, refused_writes, statement_timeouts
from tools.api import problems
from tools.calls.ledger import LedgerUnavailable

RETRY_AFTER = "5"  # seconds
ON_A_PAGE = (
    "There is too much to look through in the time that a page may take. Narrow the list with a filter or a shorter "
    "period, or try again in a moment."
)
SENTENCE = "The database took too long. Ask for less at a time, or try again in a moment."
AWAY_ON_A_PAGE = (
    "The database does not answer, so this page cannot be shown. Nothing that was stored is lost. Try again in a "
    "moment, and look first whether what you last changed was saved. If it goes on, tell the staff of the platform."
)
STORES_NOTHING_ON_A_PAGE = (
    "The database answers, but stores nothing at the moment, so nothing was changed. What was stored before is not "
    "lost. Try again in a while. If it goes on, tell the staff of the platform."
)
STORES_NOTHING = "The database stores nothing at the moment, so nothing was changed. Try again in a moment."
AWAY = "The database does not answer. Try again in a moment."


class DatabaseFailureMiddleware(MiddlewareMixin):
    """Answers 503 when a statement timed out or the database is away, for the API as a problem (RFC 9457)."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the answer; None for every other exception."""
        return answer_to(request, exception)


def answer_to(request: HttpRequest, error: BaseException | None) -> HttpResponse | None:
    """Return the answer to an error of the database that is nobody's fault here; None for every other error."""
    if error is None:
        return None
    if outages.is_away(error):
        return away(request)
    if outages.takes_no_writes(error):
        refused_writes.note(error)
        problem = problems.problem(503, LedgerUnavailable.code, STORES_NOTHING)
        return _answer(request, problem, "The database stores nothing", STORES_NOTHING_ON_A_PAGE)
    if statement_timeouts.expired(error):
        return _answer(request, problems.problem(503, "database_busy", SENTENCE), "This took too long", ON_A_PAGE)
    return None


def away(request: HttpRequest) -> HttpResponse:
    """Return the answer that the database does not answer."""
    problem = problems.problem(503, LedgerUnavailable.code, AWAY)
    return _answer(request, problem, "The database does not answer", AWAY_ON_A_PAGE)


def _answer(request: HttpRequest, problem: dict[str, Any], heading: str, sentence: str) -> HttpResponse:
    """Return the problem to a program, and a page with the heading and the sentence to a person."""
    if request.path.startswith("/v1/"):
        answer: HttpResponse = JsonResponse(problem, status=503, content_type=problems.CONTENT_TYPE)
    else:
        answer = render(request, "wait.html", {"heading": heading, "sentence": sentence}, status=503)
    answer["Retry-After"] = RETRY_AFTER
    answer["Cache-Control"] = "no-store"
    return answer

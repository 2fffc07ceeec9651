"""The page for somebody who has to wait, because of too many tries or too many people at once."""

from __future__ import annotations

import math

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.defaults import page_not_found

from connections import deleting
from connections.context import visitor
from connections.errors import TooManyTries, TryLater
from connections.passwords import remember_browser
from duvo.middleware import Middleware


class TryLaterMiddleware(Middleware):
    """Keep the request in `context`, answer 429 or 503 with Retry-After, and mark browsers that have signed in."""

    def before(self, request: HttpRequest) -> None:
        """Let what is recorded say who asked."""
        visitor.set(request)

    def after(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Mark the browser of a person who has just signed in."""
        user = getattr(request, "signed_in", None)
        if user is not None:
            remember_browser(response, user, secure=settings.SESSION_COOKIE_SECURE)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the page that says how long to wait, or 404 for what was just deleted; None for all else."""
        if deleting.is_gone(exception):
            return page_not_found(request, exception)
        if not isinstance(exception, TryLater):
            return None
        seconds = math.ceil(exception.retry_after)
        status = 429 if isinstance(exception, TooManyTries) else 503
        context = {"heading": "Please wait a moment", "sentence": exception.sentence, "seconds": seconds}
        answer = render(request, "wait.html", context, status=status)
        answer["Retry-After"] = str(seconds)
        return answer

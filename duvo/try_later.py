"""The page for somebody who has to wait, because of too many tries or too many people at once."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from connections.context import visitor
from connections.errors import TooManyTries, TryLater
from connections.passwords import remember_browser


class TryLaterMiddleware:
    """Keep the request in `context`, answer 429 or 503 with Retry-After, and mark browsers that have signed in."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Keep the next layer; behave async if it is."""
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer."""
        visitor.set(request)
        if iscoroutinefunction(self.get_response):
            return self._answer_async(request)
        return self._remembered(request, self.get_response(request))

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        return self._remembered(request, await self.get_response(request))

    @staticmethod
    def _remembered(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        user = getattr(request, "signed_in", None)
        if user is not None:
            remember_browser(response, user, secure=settings.SESSION_COOKIE_SECURE)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the page that says how long to wait; None for every other exception."""
        if not isinstance(exception, TryLater):
            return None
        seconds = math.ceil(exception.retry_after)
        status = 429 if isinstance(exception, TooManyTries) else 503
        context = {"heading": "Please wait a moment", "sentence": exception.sentence, "seconds": seconds}
        answer = render(request, "wait.html", context, status=status)
        answer["Retry-After"] = str(seconds)
        return answer

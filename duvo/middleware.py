"""Middleware that does a little before and after each request, in the event loop as well as in a thread.

Django's `MiddlewareMixin` takes a thread for each of its two methods; this one takes none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase


class Middleware:
    """A layer with two quick methods to override, which wait for nothing: `before` and `after`."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Keep the next layer; be asynchronous if it is."""
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def before(self, request: HttpRequest) -> None:
        """Do something before the next layer sees the request."""

    def after(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Change the response of the next layer."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Return the response, or what it is awaited from where the next layer is asynchronous."""
        if iscoroutinefunction(self.get_response):
            return self._answer(request)
        self.before(request)
        response: HttpResponseBase = self.get_response(request)
        self.after(request, response)
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        self.before(request)
        response: HttpResponseBase = await self.get_response(request)
        self.after(request, response)
        return response

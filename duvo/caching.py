"""Keeping answers to one caller out of shared caches (RFC 9111)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers


def keep_private(response: HttpResponseBase) -> None:
    """Forbid caches to store a response, unless it has a Cache-Control of its own."""
    if not response.has_header("Cache-Control"):
        response["Cache-Control"] = "no-store"
    if "public" not in response["Cache-Control"]:
        patch_vary_headers(response, ["Authorization"])


class KeepPrivateMiddleware:
    """Applies `keep_private` to every answer of the API, errors included."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Keep the next layer; behave async if it is."""
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer."""
        if iscoroutinefunction(self.get_response):
            return self._answer_async(request)
        return self._kept(request, self.get_response(request))

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        return self._kept(request, await self.get_response(request))

    @staticmethod
    def _kept(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.path.startswith("/v1/"):
            keep_private(response)
        return response

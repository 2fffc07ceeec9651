"""Keeping answers to one caller out of shared caches (RFC 9111)."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers

from duvo.middleware import Middleware


def keep_private(response: HttpResponseBase) -> None:
    """Forbid caches to store a response, unless it has a Cache-Control of its own."""
    if not response.has_header("Cache-Control"):
        response["Cache-Control"] = "no-store"
    if "public" not in response["Cache-Control"]:
        patch_vary_headers(response, ["Authorization"])


class KeepPrivateMiddleware(Middleware):
    """Applies `keep_private` to every answer of the API, errors included."""

    def after(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Keep the API's answers out of shared caches."""
        if request.path.startswith("/v1/"):
            keep_private(response)

"""Requests whose address is not the public one: health checks, and a proxy that is not believed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from duvo.middleware import Middleware

OPERATIONS = frozenset({"/healthz", "/readyz", "/metrics"})  # they say how the process is, to who runs it

logger = logging.getLogger(__name__)


class AddressMiddleware(Middleware):
    """Lets a process be asked for its health by whatever name it has inside a network, over http.

    And tells who runs it, once, of a proxy that ends TLS and is not believed: each page would redirect to itself.
    """

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Begin without having told."""
        super().__init__(get_response)
        self._told = threading.Event()

    def before(self, request: HttpRequest) -> None:
        """Give a question about health the public host's name."""
        if request.path in OPERATIONS:
            request.META["HTTP_HOST"] = settings.ALLOWED_HOSTS[0]
        elif self._is_not_believed(request) and not self._told.is_set():
            self._told.set()
            logger.warning(
                "A proxy says that it was asked over https and is not believed, so each page redirects to itself: set "
                "TRUST_FORWARDED_PROTO=true, if the proxy overwrites X-Forwarded-Proto."
            )

    @staticmethod
    def _is_not_believed(request: HttpRequest) -> bool:
        return (
            settings.SECURE_SSL_REDIRECT
            and settings.SECURE_PROXY_SSL_HEADER is None
            and request.headers.get("x-forwarded-proto") == "https"
        )

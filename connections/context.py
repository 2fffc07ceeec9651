"""What is known of the work at hand, wherever it runs."""

from __future__ import annotations

from contextvars import ContextVar

from django.http import HttpRequest

request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the HTTP request; set by the frame
visitor: ContextVar[HttpRequest | None] = ContextVar("visitor", default=None)  # whose page is being made

"""What is known of the work at hand, wherever it runs."""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the HTTP request; set by the frame

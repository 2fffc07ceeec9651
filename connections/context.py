"""What is known of the work at hand, wherever it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from django.http import HttpRequest

request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the HTTP request; set by the frame
visitor: ContextVar[HttpRequest | None] = ContextVar("visitor", default=None)  # whose page is being made
tenant: ContextVar[str] = ContextVar("tenant", default="")  # for whom: its share of look-ups is used; "" is not known


@contextmanager
def acting_for(tenant_id: UUID | str | None) -> Iterator[None]:
    """Say for which tenant the work inside is done."""
    token = tenant.set(str(tenant_id or ""))
    try:
        yield
    finally:
        tenant.reset(token)

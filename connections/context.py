"""Context variables of the current request or task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from django.http import HttpRequest

request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the HTTP request; set by duvo.logging
visitor: ContextVar[HttpRequest | None] = ContextVar("visitor", default=None)  # the request of the page being made
tenant: ContextVar[str] = ContextVar("tenant", default="")  # whose share of DNS look-ups is used; "" if not known

WHOSE = "duvo.whose"  # the member of an ASGI scope that says, or finds out when called, whose the answer is


@contextmanager
def acting_for(tenant_id: UUID | str | None) -> Iterator[None]:
    """Say for which tenant the work inside is done."""
    token = tenant.set(str(tenant_id or ""))
    try:
        yield
    finally:
        tenant.reset(token)

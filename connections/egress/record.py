"""What was done to make a connection, for callers that observe it: the first stages of a preflight report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a connection that was tried: `dns`, `tcp` or `tls`, with a sentence for a person."""

    stage: str
    ok: bool
    sentence: str
    milliseconds: float
    code: str = ""
    addresses: tuple[str, ...] = ()  # what the name resolved to; for tcp the one connected to
    tls_version: str = ""


_observed: ContextVar[list[Step] | None] = ContextVar("egress_observed", default=None)


@contextmanager
def observe() -> Iterator[list[Step]]:
    """Collect the steps of every connection made inside; a connection that is reused from the pool has none."""
    steps: list[Step] = []
    token = _observed.set(steps)
    try:
        yield steps
    finally:
        _observed.reset(token)


def note(
    stage: str,
    sentence: str,
    *,
    started: float,
    code: str = "",
    addresses: tuple[str, ...] = (),
    tls_version: str = "",
) -> None:
    """Add a stage begun at `started` (monotonic seconds) to what `observe` collects; a code means that it failed."""
    steps = _observed.get()
    if steps is not None:
        milliseconds = round((time.monotonic() - started) * 1000, 1)
        steps.append(Step(stage, not code, sentence, milliseconds, code, addresses, tls_version))

"""A span for each call, where an OpenTelemetry provider is set up (the extra `opentelemetry`); else nothing at all.

Names follow the semantic conventions for MCP. A span says which tool it was and whether it failed, and nothing else.
`opentelemetry-instrument` and the OTEL_* variables set the provider up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from connections.errors import DuvoError

_propagator = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Span:
    """The span of one call; `traceparent` is what goes on to the server (W3C Trace Context)."""

    traceparent: str
    of_otel: trace.Span | None = None

    def failed(self, code: str) -> None:
        """Mark the span as failed, with an error code."""
        if self.of_otel is not None:
            self.of_otel.set_attribute("error.type", code)
            self.of_otel.set_status(trace.StatusCode.ERROR)


@contextmanager
def of_call(tool: str, traceparent: str) -> Iterator[Span]:
    """Open the span of a call of this tool, as a child of its caller's; an error raised inside marks it as failed."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # none is set up
        yield Span(traceparent)
        return
    parent = _propagator.extract({"traceparent": traceparent}) if traceparent else None
    with trace.get_tracer("duvo.tools").start_as_current_span(
        f"tools/call {tool}",
        context=parent,
        kind=trace.SpanKind.CLIENT,
        attributes={"mcp.method.name": "tools/call", "gen_ai.tool.name": tool},
        record_exception=False,  # its text may say more than a span should
        set_status_on_exception=False,
    ) as otel:
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        span = Span(carrier.get("traceparent", traceparent), otel)
        try:
            yield span
        except DuvoError as error:
            span.failed(error.code)
            raise

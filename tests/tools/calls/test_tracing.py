"""The trace context: taken from the caller, kept with the call, sent on only where the connection allows it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.servers import kinds
from tests.tools.conftest import Shop
from tools.calls import tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (GIVEN, GIVEN),
        (f" {GIVEN} ", GIVEN),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", GIVEN),
        (None, ""),
        ("", ""),
        (f"ff-{TRACE}-{SPAN}-01", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (GIVEN.upper(), ""),
        (f"{GIVEN}-more", ""),
        (f"{GIVEN}more", ""),
        (f"00-{TRACE}-{SPAN}", ""),
    ],
)
def test_only_a_valid_context_is_kept(header: str | None, kept: str) -> None:
    assert tracing.parse(header) == kept


@given(st.text() | st.text("0123456789abcdefABCDEF- \t\r\n", max_size=80) | st.from_regex(r"[0-9a-f-]{55}(-.*)?"))
def test_whatever_is_sent_what_is_kept_is_a_valid_context_of_version_00(header: str) -> None:
    kept = tracing.parse(header)
    assert kept == "" or re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", kept)
    assert tracing.parse(kept) == kept


@given(st.integers(0, 254), st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_every_valid_context_is_kept_and_its_trace_goes_on(
    version: int, trace_id: int, span_id: int, flags: int
) -> None:
    rest = f"{trace_id:032x}-{span_id:016x}-{flags:02x}"
    kept = tracing.parse(f"{version:02x}-{rest}")
    assert kept == f"00-{rest}"
    sent = tracing.meta(kept)["traceparent"]
    assert tracing.parse(sent) == sent
    assert sent.split("-")[1::2] == kept.split("-")[1::2]


def test_without_a_context_nothing_is_sent() -> None:
    assert tracing.meta("") == {}


@pytest.mark.parametrize("allowed", [True, False])
def test_the_trace_goes_on_with_a_span_of_ours_where_the_connection_allows_it(shop: Shop, allowed: bool) -> None:
    shop.set(send_trace=allowed)
    assert shop.call("echo", {"text": "x"}, headers={"traceparent": GIVEN}).status_code == 200
    assert shop.row.traceparent == GIVEN
    (sent,) = (
        request.message["params"]["_meta"] for request in shop.server.requests if request.rpc_method == "tools/call"
    )
    if not allowed:
        assert "traceparent" not in sent
        return
    version, trace, span, flags = sent["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != SPAN


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    """What a provider exports; OpenTelemetry takes one per process, for good."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_a_call_is_a_span_below_its_callers(shop: Shop, spans: InMemorySpanExporter) -> None:
    shop.set(send_trace=True)
    spans.clear()
    shop.call("echo", {"text": "m4rk-said"}, headers={"traceparent": GIVEN})
    (span,) = [span for span in spans.get_finished_spans() if span.name == "tools/call orders__echo"]
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert "m4rk" not in span.to_json()
    (sent,) = (
        request.message["params"]["_meta"] for request in shop.server.requests if request.rpc_method == "tools/call"
    )
    assert sent["traceparent"].split("-")[1] == TRACE


@pytest.mark.parametrize(("tool", "code"), [("fail", "tool_error"), ("echo", "server_failed")])
def test_a_failed_call_is_a_failed_span(shop: Shop, spans: InMemorySpanExporter, tool: str, code: str) -> None:
    if tool == "echo":
        shop.answers(kinds.answers(503, b"m4rk-failure"))
    spans.clear()
    shop.call(tool, {"text": "x"} if tool == "echo" else {})
    (span,) = [span for span in spans.get_finished_spans() if span.name == f"tools/call orders__{tool}"]
    assert (span.status.is_ok, (span.attributes or {})["error.type"]) == (False, code)
    assert "m4rk" not in span.to_json()

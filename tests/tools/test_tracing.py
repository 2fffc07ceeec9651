"""The trace context: taken from the caller, kept with the call, sent on only where the connection allows it."""

from __future__ import annotations

import pytest

from tests.tools.conftest import Shop
from tools import tracing

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

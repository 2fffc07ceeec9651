"""How a stranger's knock at an MCP server is read."""

from __future__ import annotations

import time

import pytest

from oauth.protocol import knocks

ANSWER = b'data: {"jsonrpc": "2.0", "id": 1, "result": {}}\n\n'


@pytest.mark.parametrize(
    "before", [b"", b"id: 0\ndata:\n\n", b": still here\n\n" * 20], ids=["none", "primed", "pings"]
)
def test_an_answer_on_a_stream_is_seen_as_soon_as_it_has_come(before: bytes) -> None:
    assert knocks.is_whole(before + ANSWER)
    assert knocks.lets_in(before + ANSWER)
    assert not knocks.is_whole(before + ANSWER[:-10])


@pytest.mark.parametrize("event", [b":\n\n", b"data:{\n\n", b"data:[1\r\n\r\n"], ids=["comments", "objects", "lists"])
def test_rivals_stream_of_very_many_events_takes_no_more_time_than_one_of_few(event: bytes) -> None:
    """The whole of it is looked at with each piece, where others that ask servers wait meanwhile."""
    body = (event * 32_768)[: 64 * 1024]
    began = time.thread_time()
    for size in range(128, len(body) + 1, 128):
        assert not knocks.is_whole(body[:size])
    assert time.thread_time() - began < 2.0, "of the processor; it was ten"

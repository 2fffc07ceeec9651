"""A page of rival's large definitions holds nobody's call, and says the same as before."""

from __future__ import annotations

import json
import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.renderers import JSONRenderer

from tools.api.rendering import RowsRenderer

pytestmark = pytest.mark.smoke


def page(rows: int) -> dict[str, Any]:
    """Tools with definitions of 64 KB, nothing but small objects."""
    schema = {"type": "object", "properties": {f"p{number}": {"a": 1} for number in range(3_000)}}
    return {"next": None, "previous": None, "results": [{"name": f"t{n}", "input_schema": schema} for n in range(rows)]}


def longest_hold(data: Any) -> float:
    """The most CPU time for which writing the data lets no other thread have a turn."""
    longest, over, ready = 0.0, threading.Event(), threading.Event()

    def write() -> None:
        ready.wait()
        RowsRenderer().render(data)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    clock = time.pthread_getcpuclockid(writer.ident or 0)
    ready.set()
    last = time.clock_gettime(clock)
    while not over.is_set():
        time.sleep(0)
        try:
            now = time.clock_gettime(clock)
        except OSError:  # it has just come to its end
            break
        longest, last = max(longest, now - last), now
    writer.join()
    return longest


def test_writing_a_page_of_large_definitions_gives_others_their_turn() -> None:
    data = page(200)
    began = time.thread_time()
    JSONRenderer().render(data)
    at_once = time.thread_time() - began
    assert longest_hold(data) < at_once / 5


@pytest.mark.parametrize(
    "data",
    [
        page(2),
        {"results": []},
        {"next": "https://duvo.example.com/?cursor=ü", "results": [{"id": uuid4(), "most": 10**30, "text": "\u2028é"}]},
        {"results": "a word"},
        [1, 2.5, None],
        {"deep": json.loads("[" * 300 + "]" * 300)},
    ],
    ids=range(6),
)
def test_it_says_what_the_stock_renderer_says(data: Any) -> None:
    assert json.loads(RowsRenderer().render(data)) == json.loads(JSONRenderer().render(data))


def test_an_answer_without_a_body_stays_one() -> None:
    assert RowsRenderer().render(None) == b""

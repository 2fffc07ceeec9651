"""JSON that is left as it is written."""

from __future__ import annotations

from typing import Any

import pytest

from tools.payloads import exact
from tools.payloads.raw_json import SMALL, RawJson, has_more_than, is_small, read

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(("most", "more"), [(0, True), (4, True), (5, False), (6, False)])
def test_marks_are_counted_together_up_to_a_limit(most: int, more: bool) -> None:
    assert has_more_than(most, (b",", b"["), b"[1,2,[3],4]") is more


def test_long_texts_are_small_and_many_small_values_are_not() -> None:
    text = b'"' + b"x" * (2 * SMALL) + b'"'
    numbers = b"[" + b"1," * SMALL + b"1]"

    assert is_small(text)
    assert not is_small(numbers)
    assert isinstance(read(text), str)
    assert isinstance(read(numbers), RawJson)


@pytest.mark.parametrize("number", [b"12345678901234567890123", b"1e400", b"0.12345678901234567890"])
def test_json_with_a_number_that_parsing_would_change_is_left_as_it_is(number: bytes) -> None:
    text = b'{"a":[{"b":%b}]}' % number

    left = read(text)

    assert isinstance(left, RawJson)
    assert left.json == text
    assert read(b'{"a":[{"b":"%b"}]}' % number) == {"a": [{"b": number.decode()}]}


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":NaN}', b'{"a":1,}'])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="line 1"):
        read(text)


@pytest.mark.parametrize(
    ("value", "may"),
    [
        ({"a": [1, "1.5", None, True, {"b": []}]}, False),
        ({"a": [1, {"b": [[0.5]]}]}, True),
        (0.5, True),
        (["x"] * 1_000, True),  # it is not looked through
        ("x" * 1_000_000, False),
    ],
)
def test_a_value_is_looked_through_for_floats(value: Any, may: bool) -> None:
    assert exact.may_have_floats(value) is may

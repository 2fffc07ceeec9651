"""JSON that is left as it is written."""

from __future__ import annotations

import pytest

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

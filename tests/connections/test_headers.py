"""Header rules under any input: what passes can be sent as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connections import headers

LIKELY = st.text(alphabet="Xx-Key: \t\r\n\x00é1", max_size=40)


@given(st.text(max_size=60) | LIKELY)
def test_whatever_is_accepted_is_a_safe_header(text: str) -> None:
    try:
        accepted = headers.parse(text)
    except headers.BadHeader:
        return
    for name, value in accepted.items():
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        assert re.fullmatch(r"[\t\x20-\x7e]+", value)
        assert value == value.strip()
    assert len({name.lower() for name in accepted}) == len(accepted)


@given(st.text(max_size=60) | LIKELY)
def test_whatever_is_accepted_as_a_key_has_no_space(text: str) -> None:
    try:
        key = headers.parse_api_key(text, as_bearer=True)
    except headers.BadHeader:
        return
    assert re.fullmatch(r"[\x21-\x7e]+", key)


@pytest.mark.parametrize(
    ("pasted", "key"),
    [("abc", "abc"), (" abc\n", "abc"), ("Bearer abc", "abc"), ("Authorization: bearer abc", "abc")],
)
def test_a_key_is_taken_from_what_people_paste(pasted: str, key: str) -> None:
    assert headers.parse_api_key(pasted, as_bearer=True) == key


def test_blank_lines_and_spaces_around_are_forgiven() -> None:
    assert headers.parse("\n X-A :\t1 \r\n\r\nX-B: a: b\n".lstrip("\n ")) == {"X-A": "1", "X-B": "a: b"}

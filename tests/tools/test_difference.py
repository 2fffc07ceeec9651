"""The difference between two definitions, as a person reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.difference import Part, differences, pretty, visible

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_each_field_that_differs_is_named_with_what_was_and_what_is() -> None:
    before = {
        "description": "Ships an order",
        "inputSchema": {"properties": {"a": {"type": "string"}}},
        "title": "Ship",
    }
    after = {"description": "Ships every order", "inputSchema": {"properties": {"a": {"type": "integer"}}}, "icons": []}
    changes = {change.path: change for change in differences(before, after)}
    assert {path: change.kind for path, change in changes.items()} == {
        "description": "changed",
        "inputSchema.properties.a.type": "changed",
        "icons": "added",
        "title": "removed",
    }
    assert changes["description"].parts == [
        Part("same", "Ships "),
        Part("removed", "an "),
        Part("added", "every "),
        Part("same", "order"),
    ]


def test_what_the_eye_does_not_see_is_spelt_out() -> None:
    assert visible("a\u200bb\u202ec\x00d\u00a0e") == "a⟨U+200B⟩b⟨U+202E⟩c⟨U+0000⟩d⟨U+00A0⟩e"
    change = differences({"description": "Ships"}, {"description": "Ships\U000e0041"})[0]
    assert change.parts[-1] == Part("added", "Ships⟨U+E0041⟩")
    assert "\u200b" not in pretty({"a\u200b": "b\u200b"})


@given(JSON, JSON)
def test_the_parts_of_a_change_make_up_both_texts(before: Any, after: Any) -> None:
    for change in differences(before, after):
        old = "".join(part.text for part in change.parts if part.kind != "added")
        new = "".join(part.text for part in change.parts if part.kind != "removed")
        assert old != new
        assert change.kind != "added" or not old
        assert change.kind != "removed" or not new


@given(JSON, JSON)
def test_two_definitions_that_are_not_the_same_show_a_difference(before: Any, after: Any) -> None:
    same = json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert (differences(before, after) == []) == same


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"default": None}, {"default": "null"}),
        ({"default": 1}, {"default": "1"}),
        ({"default": ""}, {"default": '""'}),
        ({"a.b": 1}, {"a": {"b": 1}}),
        ({"a[1]": 1}, {"a": [1]}),
        ({"text": "\u200b"}, {"text": "⟨U+200B⟩"}),
        ({"a": {}}, {"a": []}),
    ],
)
def test_lookalikes_are_told_apart(before: Any, after: Any) -> None:
    assert differences(before, after)

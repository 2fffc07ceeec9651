"""The difference between two definitions, as a person reads it."""

from __future__ import annotations

import json
import time
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.definitions.difference import MOST_SHOWN, Part, differences, pretty, visible

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


DEEP = "[" * 200_000


def test_texts_and_values_that_are_nested_without_end_are_shown_and_compared() -> None:
    assert differences({"description": DEEP}, {"description": "Ships."})[0].path == "description"
    assert "[[[[" in pretty({"description": DEEP})
    value: Any = "x"
    for _ in range(100_000):
        value = [value]
    assert "nested too deeply" in pretty(value)


def shuffled(words: int, seed: int) -> str:
    return " ".join(Random(seed).choices("abcdefgh", k=words))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"description": shuffled(30_000, 1)}, {"description": shuffled(30_000, 2)}),
        ({f"f{n}": shuffled(1_900, n) for n in range(15)}, {f"f{n}": shuffled(1_900, -n - 1) for n in range(15)}),
        ({f"f{n}": n for n in range(6_000)}, {f"f{n}": -n - 1 for n in range(6_000)}),
        ({"a" * 20_000: {f"f{n}": 1 for n in range(5_000)}}, {"a" * 20_000: {f"f{n}": 2 for n in range(5_000)}}),
        ({"title": "\u200b" * 20_000}, {"title": "\u200c" * 20_000}),
    ],
)
def test_definitions_that_differ_in_everything_are_little_work(before: Any, after: Any) -> None:
    started = time.thread_time()
    changes = differences(before, after)
    assert time.thread_time() - started < 3  # of this thread's own: a matcher of words alone takes minutes
    assert changes
    assert sum(len(part.text) for change in changes for part in change.parts) < 2_000_000


def test_what_differs_in_too_many_fields_is_shown_whole_before_and_after() -> None:
    before, after = {f"f{n}": n for n in range(2_000)}, {f"f{n}": -n for n in range(1, 2_000)}
    [change] = differences(before, after)
    assert (change.path, [part.kind for part in change.parts]) == ("", ["removed", "added"])
    assert json.loads(change.parts[1].text) == after


def test_a_few_words_changed_in_a_long_text_are_found() -> None:
    old = " ".join(f"word{number}" for number in range(9_000))
    [change] = differences({"description": old}, {"description": old.replace("word4500 ", "another ")})
    assert [part.text for part in change.parts if part.kind != "same"] == ["word4500 ", "another "]


def test_a_value_that_is_too_long_says_so_and_a_definition_is_shown_to_its_end() -> None:
    deep: Any = [1] * 30_000
    for _ in range(200):
        deep = [deep]
    assert "⟨…⟩" not in pretty(deep)
    assert len(pretty(deep)) < MOST_SHOWN
    assert pretty(["x" * 1_000_000]).endswith("⟨…⟩")
    assert not pretty({"x": "⟨…⟩"}).endswith("⟨…⟩")

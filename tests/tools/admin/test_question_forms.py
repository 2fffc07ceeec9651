"""The form that an admin answers a question with holds against what servers and people write into it."""

from __future__ import annotations

from typing import Any

import pytest

from tools.admin.questions import QuestionForm, forms_of, responses_of


def form_of(schema: dict[str, Any], given: str | None = None) -> QuestionForm:
    """The form of a question with one field, empty or sent."""
    question = {"mode": "form", "message": "Say it.", "url": None, "schema": {"properties": {"it": schema}}}
    data = None if given is None else {"question-1-field-0": given}
    (form,) = forms_of({"requests": {"a": question}}, data)
    return form


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "0001-01-01", "soon"])
def test_a_moment_beyond_the_calendar_is_shown_and_refused_like_any_other_mistake(moment: str) -> None:
    schema = {"type": "string", "format": "date-time", "default": moment}
    assert "question-1-field-0" in form_of(schema).as_p()
    if moment != "0001-01-01":
        form = form_of(schema, moment)
        assert responses_of([form], "accept") is None
        assert form.errors


def test_an_integer_that_json_does_not_carry_everywhere_is_refused() -> None:
    assert responses_of([form_of({"type": "integer"}, "9" * 22)], "accept") is None
    assert responses_of([form_of({"type": "integer", "minimum": -(10**30)}, "-" + "9" * 22)], "accept") is None
    assert responses_of([form_of({"type": "integer"}, "7")], "accept") == {
        "a": {"action": "accept", "content": {"it": 7}}
    }

"""What of a tool's description may change by itself, as an organization admin chooses."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from tools.definitions import moving
from tools.definitions.difference import visible
from tools.models import Tool

_MOST_OFFERED = 100  # lines with a box each
_LONGEST_LINE = 120  # characters of a line that are shown beside its box


class DescriptionForm(forms.Form):
    """Each change waits for a review, or all of the description, or some lines of it, may change by itself."""

    part = forms.ChoiceField(
        label="When only the description changes",
        choices=[
            ("", "Each change waits for a review"),
            (moving.ALL, "All of it may change by itself"),
            ("lines", "These lines may change by themselves"),
        ],
        required=False,
        widget=forms.RadioSelect,
    )
    lines = forms.TypedMultipleChoiceField(
        label="Lines", required=False, coerce=int, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, data: Any = None, *, tool: Tool) -> None:
        """Offer the lines of the description last seen."""
        chosen = moving.numbers(tool.moving)
        initial = {"part": "lines" if chosen else tool.moving, "lines": chosen}
        super().__init__(data, initial=initial)
        lines = moving.lines(tool.definition)
        shown = lines[:_MOST_OFFERED] if 1 < len(lines) <= _MOST_OFFERED else []
        self.fields["lines"].choices = [  # type: ignore[attr-defined]
            (number, f"{number}: {visible(line, most=_LONGEST_LINE)}") for number, line in enumerate(shown, 1)
        ]
        if not shown:
            part: Any = self.fields["part"]
            part.choices = [choice for choice in part.choices if choice[0] != "lines"]
            del self.fields["lines"]

    def clean(self) -> dict[str, Any]:
        """Add what was chosen as `moving`; raises ValidationError for lines of which none, or too many, are ticked."""
        data = self.cleaned_data
        part = data.get("part", "")
        if part != "lines":
            return {**data, "moving": part}
        try:
            return {**data, "moving": moving.written(data.get("lines") or [])}
        except ValueError:
            sentence = f"Tick the lines that may change, at most {moving.MOST_LINES}."
            raise ValidationError({"lines": ValidationError(sentence, code="no_lines")}) from None

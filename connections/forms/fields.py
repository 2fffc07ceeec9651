"""Fields for names, for what is written and never shown, and for spans of time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator

from connections import headers, moments, names
from connections.forms import keys


class ChoiceField(forms.ChoiceField):
    """One of a few words; another value is not said again: it may be a secret."""

    default_error_messages = {"invalid_choice": "This is none of the choices."}


class NameField(forms.CharField):
    """A name as people see it: in one line, and without what nobody sees."""

    def to_python(self, value: Any) -> Any:
        """Return the name in one line."""
        return names.in_one_line(super().to_python(value) or "")

    def validate(self, value: Any) -> None:
        """Raise ValidationError for a name that looks like another because of what is invisible in it."""
        super().validate(value)
        try:
            names.check(value)
        except names.Invisible as fault:
            raise ValidationError(str(fault), code="invisible") from fault


class HeadersField(forms.CharField):
    """Headers that are written, never shown: text with one per line, or a mapping from programs."""

    def __init__(self, **kwargs: Any) -> None:
        """Show an empty box whatever is stored or was sent."""
        attributes = {"rows": 3, "autocomplete": "off", "spellcheck": "false", "placeholder": "X-Api-Key: …"}
        super().__init__(required=False, widget=WriteOnlyTextarea(attrs=attributes), strip=False, **kwargs)

    def to_python(self, value: Any) -> Any:
        """Return the headers by name, {} for none; raises ValidationError with a sentence."""
        given = _edged(value) if isinstance(value, Mapping) else keys.header_lines(str(value or ""))
        if isinstance(given, str) and given.lstrip().startswith(("{", "[", "curl ")):
            raise ValidationError(
                "No headers could be read out of this. Write one “Name: value” per line.", code="bad_header"
            )
        try:
            return headers.parse(given)
        except headers.BadHeader as fault:
            raise ValidationError(str(fault), code="bad_header") from fault


def _edged(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return headers without what nobody sees around names and values; a line break is left, and refused."""
    return {
        keys.without_edges(name, ("Cf", "Zs")): keys.without_edges(value, ("Cf", "Zs"))
        if isinstance(value, str)
        else value
        for name, value in given.items()
    }


class WriteOnlyTextarea(forms.Textarea):
    """A text area that never shows its value, not even the one just sent."""

    def format_value(self, value: Any) -> str | None:
        """Return nothing."""
        return None

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        """Return what was sent, mappings from programs included."""
        return data.get(name)


class DayField(forms.DateField):
    """A day that may be left out, of a time in which something can have happened."""

    def __init__(self, label: str) -> None:
        """Show it as browsers let people choose days."""
        validators = [MinValueValidator(date(2000, 1, 1)), MaxValueValidator(date(2999, 12, 31))]
        widget = forms.DateInput(attrs={"type": "date"})
        super().__init__(label=label, required=False, widget=widget, validators=validators)


class ZoneField(forms.CharField):
    """The IANA name of a time zone, found among `offered` by typing a part of it; left blank, it stays as it is."""

    widget = forms.TextInput(attrs={"list": "time-zones", "autocomplete": "off", "spellcheck": "false"})
    offered = staticmethod(moments.offered)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Tell whether another zone was entered."""
        return data not in self.empty_values and super().has_changed(initial, data)

    def clean(self, value: Any) -> str:
        """Return the name as it is written; raises ValidationError for one that no zone has."""
        sent = super().clean(value).replace(" ", "_")
        if not sent:
            return ""
        known = {name.casefold(): name for name in moments.available()}
        if sent.casefold() not in known:
            raise ValidationError(f"No time zone has this name: {sent[:64]}. Choose one, such as Europe/Berlin.")
        return known[sent.casefold()]


def seconds(label: str, longest: int, help_text: str) -> forms.IntegerField:
    """Return a field for a span of time; left blank, it stays as it is."""
    return forms.IntegerField(label=label, min_value=1, max_value=longest, help_text=help_text, required=False)

"""A form for what a server asks in the middle of a call, made from the server's own schema.

    forms = forms_of(call.question())             one form for each question
    responses = responses_of(forms, "accept")      by key, or None when a field is wrong

Nothing is filled in but the defaults in the schema. The fields have names of our own; the server's names are only in
their labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.utils import timezone

from tools.definitions.difference import visible
from tools.definitions.schemas import Fault, pointer

ACTIONS = ("accept", "decline", "cancel")
_OWN_ACTION = "action"
_INPUTS = {"email": "email", "date": "date", "uri": "url"}
_SAFE = 2**53 - 1
_LONG_TEXT = 200  # characters; a text that may be longer gets several lines


class QuestionForm(forms.Form):
    """The fields of one question; `content` is the answer as the server wants it."""

    def __init__(self, key: str, question: dict[str, Any], data: Any = None, *, number: int, alone: bool) -> None:
        """Make the fields; `number` makes their names unique on a page; a form not `alone` has its own action."""
        super().__init__(
            data, prefix=f"question-{number}", auto_id=f"id_question-{number}-%s", use_required_attribute=alone
        )
        self.key, self.mode = key, question["mode"]
        self.message = visible(question["message"], keep="\n")
        self.address = visible(question["url"] or "")
        self.host, self.opens = _visited(question["url"] or "")
        schema = question["schema"] or {}
        required = schema.get("required", ())
        self._names = {f"field-{index}": name for index, name in enumerate(schema.get("properties", {}))}
        if not alone:
            done = "I have done it" if self.mode == "url" else "Answer"
            choices = [("accept", done), ("decline", "Decline"), ("cancel", "Answer nothing")]
            self.fields[_OWN_ACTION] = forms.ChoiceField(
                label="What to do", choices=choices, initial="accept", widget=forms.RadioSelect
            )
        for field, name in self._names.items():
            self.fields[field] = _field(name, schema["properties"][name], required=name in required)

    def content(self) -> dict[str, Any]:
        """Return the filled-in fields under the server's names; what was left blank is left out."""
        given = {name: self.cleaned_data[field] for field, name in self._names.items()}
        return {name: value for name, value in given.items() if value not in (None, "", [])}

    def chosen(self, action: str) -> str:
        """Return the form's own action where it has one and the page's is to accept, else the page's."""
        own = self.data.get(self.add_prefix(_OWN_ACTION)) if _OWN_ACTION in self.fields else None
        return own if action == "accept" and own in ACTIONS else action

    def add_faults(self, faults: Iterable[Fault]) -> None:
        """Show each fault of this question at its field, or above the fields."""
        its_own = pointer([self.key])
        fields = {f"{its_own}{pointer(['content', name])}": field for field, name in self._names.items()}
        for fault in faults:
            if fault.pointer == its_own or fault.pointer.startswith(f"{its_own}/"):
                field = next((fields[path] for path in fields if f"{fault.pointer}/".startswith(f"{path}/")), None)
                self.add_error(field, visible(fault.message))


def forms_of(question: dict[str, Any], data: Any = None) -> list[QuestionForm]:
    """Return one form for each request of a call's question, in its order."""
    requests = question["requests"]
    return [
        QuestionForm(key, one, data, number=number, alone=len(requests) == 1)
        for number, (key, one) in enumerate(requests.items(), start=1)
    ]


def responses_of(filled: Sequence[QuestionForm], action: str) -> dict[str, Any] | None:
    """Return the responses by key, or None when a form that is to be sent has faults, which it then shows."""
    responses: dict[str, Any] = {}
    for form in filled:
        chosen = form.chosen(action)
        responses[form.key] = {"action": chosen}
        if chosen == "accept" and form.mode == "form" and form.is_valid():
            responses[form.key]["content"] = form.content()
    wrong = [form for form in filled if form.mode == "form" and form.chosen(action) == "accept" and not form.is_valid()]
    return None if wrong else responses


def _visited(url: str) -> tuple[str, bool]:
    """Return a URL's host, and whether a browser may open it: only https, plain ASCII and without credentials."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read", False
    host = parts.hostname or ""
    plain = url.isascii() and url.isprintable() and "@" not in parts.netloc
    return visible(host) or "an address without a host", bool(host) and parts.scheme == "https" and plain


class _MomentField(forms.DateTimeField):
    """A date and time in the zone of the page, as text in UTC with the time zone (RFC 3339)."""

    def __init__(self, **kwargs: Any) -> None:
        """Use the browser's own date picker."""
        widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
        super().__init__(widget=widget, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Return what the date picker is to show: the default of a schema is text with a time zone."""
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
            return timezone.localtime(moment) if moment is not None and moment.tzinfo else value
        except (ValueError, OverflowError):  # there the year would be 0 or 10000
            return value

    def clean(self, value: Any) -> Any:
        """Return the date and time as text; raises ValidationError."""
        moment = super().clean(value)
        try:
            return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None
        except OverflowError as error:
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from error


def _field(name: str, schema: dict[str, Any], *, required: bool) -> forms.Field:
    common: dict[str, Any] = {
        "label": visible(schema.get("title") or name),
        "help_text": visible(schema.get("description", ""), keep="\n"),
        "initial": schema.get("default"),
        "required": required,
    }
    match schema["type"]:
        case "boolean":
            return forms.BooleanField(**common | {"required": False})  # no is an answer too
        case "array":
            choices = _choices(schema["items"])
            return forms.MultipleChoiceField(choices=choices, widget=forms.CheckboxSelectMultiple, **common)
        case "integer" | "number" as kind:
            number = forms.IntegerField if kind == "integer" else forms.FloatField
            widget = forms.NumberInput(attrs={"step": "1" if kind == "integer" else "any"})
            least, most = schema.get("minimum"), schema.get("maximum")
            if kind == "integer":  # what every JSON parser reads exactly (RFC 8259, section 6)
                least = max(-_SAFE, least if least is not None else -_SAFE)
                most = min(_SAFE, most if most is not None else _SAFE)
            return number(widget=widget, min_value=least, max_value=most, **common)
    if choices := _choices(schema):
        chosen_already = required and "default" in schema
        return forms.ChoiceField(choices=choices if chosen_already else [("", "—"), *choices], **common)
    if schema.get("format") == "date-time":
        zone = f"In {timezone.get_current_timezone_name()}."
        return _MomentField(**common | {"help_text": f"{common['help_text']} {zone}".strip()})
    return _text(schema, common)


def _text(schema: dict[str, Any], common: dict[str, Any]) -> forms.Field:
    most = schema.get("maxLength")
    widget: forms.Widget = forms.TextInput(attrs={"type": _INPUTS.get(schema.get("format", ""), "text")})
    if most is not None and most > _LONG_TEXT and "format" not in schema:
        widget = forms.Textarea(attrs={"rows": 4})
    widget.attrs["autocomplete"] = "off"
    return forms.CharField(min_length=schema.get("minLength"), max_length=most, widget=widget, strip=False, **common)


def _choices(schema: dict[str, Any]) -> list[tuple[str, str]]:
    if "enum" in schema:
        names = schema.get("enumNames") or schema["enum"]
        return [(value, visible(name)) for value, name in zip(schema["enum"], names, strict=True)]
    titled = schema.get("oneOf") or schema.get("anyOf") or []
    return [(option["const"], visible(option["title"])) for option in titled]

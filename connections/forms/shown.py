"""Two people at one form: who saves second is told who was quicker, and nothing that the first saved is lost.

A page carries a mark (a short digest) of every value that it shows. When the form comes back, the marks are compared
with the row as it is then, locked: if it has changed, nothing is saved, what was typed stays, and the other fields show
what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.forms.models import model_to_dict
from django.http import QueryDict
from django.utils.crypto import salted_hmac

from connections.ages import ago
from connections.errors import DuvoError
from connections.models import AuditEvent

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Any]
else:
    _ModelForm = forms.ModelForm

SHOWN = "shown"
_MARK_LENGTH = 20  # hex digits; marks tell values apart, they protect nothing
_LONGEST = 20_000  # characters of all marks of a form


class Superseded(DuvoError):
    """Somebody else has changed this at the same moment, so nothing was saved. Look at it and try again."""

    code = "superseded"

    def __init__(self, shown: str = "") -> None:
        """Take the marks of the page that could not be saved, to compare them with what is stored now."""
        super().__init__()
        self.shown = shown


class MarksField(forms.CharField):
    """The marks of what the page showed; it is no setting, so it never counts as changed."""

    def __init__(self, initial: str) -> None:
        """Take the marks of the row as it is shown."""
        super().__init__(required=False, widget=forms.HiddenInput, initial=initial, max_length=_LONGEST)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Return False."""
        return False


class ShownForm(_ModelForm):
    """A form of a row that others may change at the same time; validate and save it in one transaction."""

    changed_by: tuple[str, ...] = (
        "changed",
    )  # the verbs of audit events that tell of other changes to what is shown here

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the hidden field with the marks."""
        super().__init__(*args, **kwargs)
        if self.is_change:
            self.fields[SHOWN] = MarksField(self.marks(self.instance))

    @property
    def is_change(self) -> bool:
        """Whether the form changes a row that exists."""
        return not self.instance._state.adding  # noqa: SLF001 - Django's own flag

    def clean(self) -> dict[str, Any]:
        """Lock and read the row again, so that what follows is checked against what is stored now."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if self.is_change:
            rows = type(self.instance)._base_manager.select_for_update(no_key=True)  # noqa: SLF001 - Django's own
            if not rows.filter(pk=self.instance.pk).first():
                raise ValidationError("Somebody has deleted this meanwhile. Nothing was saved.", code="gone")
            self.instance.refresh_from_db()
            self.compare(self.instance)
        data.pop(SHOWN, None)
        return data

    def marks(self, row: Model) -> str:
        """Return the marks of the values that this form shows of a row."""
        return json.dumps({name: _mark(value) for name, value in self._values(row).items()})

    def compare(self, now: Model) -> None:
        """Refuse to save over what somebody has saved since the page was shown, and show that beside what was typed."""
        sent = self.cleaned_data.get(SHOWN) or self.fields[SHOWN].initial  # a script sends none: it saw the row as read
        shown, stored = _read(sent), _read(self.marks(now))
        others = [name for name in shown if name in stored and stored[name] != shown[name]]
        if not others:
            return
        self.add_error(None, ValidationError(self._quicker(others), code=Superseded.code))
        if isinstance(self.data, QueryDict):
            sent = self.data.copy()
            self._show(now, sent, [name for name, mark in shown.items() if self._is_as_shown(name, mark)])
            self.data = sent

    def _is_as_shown(self, name: str, mark: str) -> bool:
        return name in self.fields and name in self.cleaned_data and _mark(self.cleaned_data[name]) == mark

    def _show(self, now: Model, sent: QueryDict, untouched: Iterable[str]) -> None:
        """Show what is stored now where nothing was typed."""
        sent[self.add_prefix(SHOWN)] = self.marks(now)
        values = self._values(now)
        for name in untouched:
            sent.setlist(self.add_prefix(name), _as_sent(values[name]))
            if not now._meta.get_field(name).many_to_many:  # noqa: SLF001 - Django's documented name
                self.cleaned_data[name] = getattr(now, name)

    def also_changed(self, event: AuditEvent) -> list[str]:
        """Return the labels of what this event changed besides the values that are shown."""
        return []

    def label_of(self, name: str) -> str:
        """Return the name of a field as people read it, "" for what is none."""
        field = self.fields.get(name)
        return str(field.label or name.replace("_", " ").capitalize()) if field else ""

    def _values(self, row: Model) -> dict[str, Any]:
        names = [name for name, field in self.fields.items() if not field.disabled]
        return model_to_dict(row, fields=names)

    def _quicker(self, others: Iterable[str]) -> str:
        kind = str(self.instance._meta.model_name)  # noqa: SLF001 - Django's documented name
        actions = [f"{kind}.{verb}" for verb in self.changed_by]
        events = AuditEvent.objects.filter(object_type=kind, object_id=str(self.instance.pk), action__in=actions)
        last = events.order_by("-at").first()
        who, when = (f"{last.actor} was quicker", f" {ago(last.at)}") if last else ("Somebody was quicker", "")
        labels = [self.label_of(name) for name in others] + (self.also_changed(last) if last else [])
        what = ", ".join(f"“{label}”" for label in dict.fromkeys(labels) if label) or "what is stored"
        return (
            f"{who} and changed {what}{when}. Nothing of yours was saved. What you typed is still here (secrets have "
            "to be entered again), and the other fields show what is stored now. If it is right, save again."
        )


def _read(marks: Any) -> dict[str, str]:
    try:
        read = json.loads(marks or "{}")
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _mark(value: Any) -> str:
    return salted_hmac("connections.forms.shown", json.dumps(_plain(value))).hexdigest()[:_MARK_LENGTH]


def _plain(value: Any) -> Any:
    if isinstance(value, Model):
        return str(value.pk)
    if value is None or isinstance(value, bool | str):
        return value or ""
    if isinstance(value, Iterable):
        return sorted(_plain(one) for one in value)
    return str(value)


def _as_sent(value: Any) -> list[str]:
    """Return a value as a browser sends it."""
    if isinstance(value, bool):
        return ["on"] if value else []
    plain = _plain(value)
    return plain if isinstance(plain, list) else [plain]

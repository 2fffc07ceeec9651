"""What a person changed in a form, with the value before and after, as the audit log may keep it.

Whoever sees the row reads this, and it is kept for ever. So of a free text only what is named here is kept as it is; of
any other, which may be a secret, only that it was set, replaced or removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.db.models import Model, QuerySet

from connections import egress

_SHOWN = frozenset(
    {
        "name", "api_key_header", "oauth_scopes", "time_zone", "username",
    }
)  # fmt: skip
_ADDRESSES = frozenset({"server_url"})  # shown without what may be a credential
_CHOICES = (forms.ChoiceField, forms.TypedChoiceField)
_LONGEST = 200  # characters of a value
_MOST = 20  # names of rows of one change


def of(form: forms.BaseForm, names: Iterable[str], before: Model | None = None) -> dict[str, Any]:
    """Return each of these fields of a valid form with [before, after], or with a word for what is not told.

    Before is what the row held, if it is given, else what the form showed.
    """
    told = {}
    for name in names:
        if (field := form.fields.get(name)) is None:
            continue
        was = form.get_initial_for_field(field, name) if before is None else getattr(before, name, None)
        now = form.cleaned_data.get(name)
        if isinstance(field, forms.ModelMultipleChoiceField) or str(was or "") != str(getattr(now, "pk", now) or ""):
            told[name] = _told(name, field, was, now)  # what was sent otherwise but means the same is no change
    return told


def _told(name: str, field: forms.Field, was: Any, now: Any) -> Any:
    if isinstance(field, forms.ModelMultipleChoiceField):
        return _of_many(field, was, now)
    if isinstance(field, forms.ModelChoiceField):
        return [_named(field, was), str(now) if now else ""]
    if name in _ADDRESSES:
        return [egress.bare(str(was or "")), egress.bare(str(now or ""))]
    if isinstance(field, _CHOICES):
        choices: Any = getattr(field, "choices", ())
        labels = {str(value): str(label) for value, label in choices}
        return [labels.get(str(value), "") for value in (was, now)]
    if name in _SHOWN:
        return [str(value or "")[:_LONGEST] for value in (was, now)]
    if isinstance(field, forms.BooleanField | forms.IntegerField | forms.DateField | forms.DateTimeField):
        return [_plain(was), _plain(now)]
    return "removed" if not now else "replaced" if was else "set"


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int) else str(value)


def _named(field: forms.ModelChoiceField[Any], key: Any) -> str:
    return str(field.queryset.filter(pk=key).first() or "") if field.queryset is not None and key else ""


def _of_many(field: forms.ModelMultipleChoiceField[Any], was: Any, now: QuerySet[Any] | Iterable[Any]) -> Any:
    before, after = {str(row): row for row in was or ()}, {str(row): row for row in now or ()}
    return {
        "added": sorted(after.keys() - before.keys())[:_MOST],
        "removed": sorted(before.keys() - after.keys())[:_MOST],
    }

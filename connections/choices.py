"""Fields of forms that choose one row: of very many it is named, because a page cannot list them."""

from __future__ import annotations

from typing import Any, Final

from django.forms import ModelChoiceField, TextInput

MOST: Final = 250  # rows in a select
_NAMED: Final = {  # the column that names a row, and where its value is found
    "tenant": ("slug", "Its short name, as the list of organizations shows it, such as acme-2."),
    "user": ("username", "The name that the person signs in with."),
}


def name_among_many(field: ModelChoiceField[Any]) -> None:
    """Have the row named instead of chosen, if there are more than a select can hold."""
    rows = field.queryset
    named = _NAMED.get(str(rows.model._meta.model_name)) if rows is not None else None  # noqa: SLF001
    if rows is None or named is None or rows[: MOST + 1].count() <= MOST:
        return
    field.to_field_name, field.help_text = named
    field.widget = TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    field.error_messages["invalid_choice"] = "There is none with this name."

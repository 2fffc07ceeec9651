"""What a browser would send back of a form that it was shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpResponse

from connections.models import Credential


def shown_by(answer: HttpResponse) -> dict[str, Any]:
    """The fields of the admin's form on this page as they are filled in; secrets are blank, as no page shows them."""
    form = answer.context["adminform"].form
    assert 'name="shown"' in answer.content.decode(), "the page does not say what it showed"
    sent: dict[str, Any] = {}
    for field in form:
        value = field.value()
        if isinstance(field.field.widget, forms.CheckboxInput):
            sent |= {field.html_name: "on"} if value not in (None, False, "", "False") else {}
        elif field.name in Credential.Kind.values or value is None:
            sent[field.html_name] = ""
        else:
            sent[field.html_name] = [getattr(one, "pk", one) for one in value] if isinstance(value, list) else value
    return sent

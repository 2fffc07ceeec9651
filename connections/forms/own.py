"""The form with which a member enters their own key or headers for a personal connection."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from connections import headers as header_rules
from connections.forms.address import clean_key, clean_values
from connections.forms.fields import HeadersField
from connections.models import Connection, Credential

Kind = Credential.Kind


class OwnForm(forms.Form):
    """One field, for a key or for headers: it only goes in, and to the server that the page names."""

    revision = forms.IntegerField(widget=forms.HiddenInput)  # of the connection, as the page showed it
    api_key = forms.CharField(
        label="Your API key",
        strip=False,
        max_length=header_rules.LONGEST_VALUE,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "spellcheck": "false"}),
    )
    headers = HeadersField(
        label="Your headers", help_text="One “Name: value” per line. Only the names are ever shown again."
    )

    def __init__(self, *args: Any, connection: Connection, **kwargs: Any) -> None:
        """Ask for what this connection wants."""
        super().__init__(*args, **kwargs)
        self.connection = connection
        self.initial["revision"] = connection.revision
        other = Kind.HEADERS if connection.own_kind == Kind.API_KEY else Kind.API_KEY
        del self.fields[other]
        if connection.own_kind == Kind.HEADERS:
            self.fields[Kind.HEADERS].required = True
        elif connection.api_key_header:
            self.fields[Kind.API_KEY].help_text = f"It is sent in the header “{connection.api_key_header}”."

    @property
    def entered(self) -> Any:
        """What was entered, once the form is valid."""
        return self.cleaned_data[str(self.connection.own_kind)]

    def clean_api_key(self) -> str:
        """Return the key as it is sent; raises ValidationError for a placeholder and for what no header can carry."""
        key = clean_key(self.cleaned_data["api_key"])
        try:
            return header_rules.parse_api_key(key, as_bearer=not self.connection.api_key_header)
        except header_rules.BadHeader as fault:
            raise ValidationError(str(fault), code="bad_header") from fault

    def clean_headers(self) -> dict[str, str]:
        """Return the headers; raises ValidationError for placeholders, and for one that the connection sets itself."""
        entered = clean_values(self.cleaned_data["headers"])
        extra = self.connection.stored(Kind.EXTRA_HEADERS)
        taken = {name.lower() for name in (extra.header_names if extra else [])}
        if twice := [name for name in entered if name.lower() in taken]:
            raise ValidationError(
                f"“{twice[0]}” is set for everybody among the extra headers. Leave it out.", code="bad_header"
            )
        return entered

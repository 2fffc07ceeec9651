"""The field for the server's address: what was pasted is read, and shown before it is saved."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from connections import egress
from connections.context import acting_for
from connections.errors import DuvoError
from connections.forms import pastes
from connections.models import Connection, Tenant

_AS_TYPED = {"private_address", "private_name", "localhost", "port_forbidden", "url_too_long", "https_required",
             "credentials_in_url", "fragment_in_url"}  # fmt: skip

_TWO_SCHEMES = re.compile(r"https?:/*https?://", re.IGNORECASE)


class AddressFields(forms.Form):
    """The address of the server, and whether it may hold a secret that all who see it can read."""

    server_url = forms.CharField(
        label="Server URL",
        max_length=pastes.LONGEST,  # of a paste; the address itself is bounded by `egress.check_url`
        widget=forms.TextInput(
            attrs={"inputmode": "url", "autocapitalize": "none", "autocomplete": "off", "spellcheck": "false",
                   "placeholder": "https://mcp.example.com/mcp"}
        ),
        help_text="The public https:// address of your MCP server (streamable HTTP). "
        "Your colleagues can see it, so it must hold no secret.",
    )  # fmt: skip
    keep_url_secret = forms.BooleanField(
        label="Keep the secret in the address",
        required=False,
        help_text="Every admin of the organization can read it there, and it may stand in the server's logs.",
    )

    tenant: Tenant | None
    before: Connection | None

    @property
    def asks_about_url_secret(self) -> bool:
        """Whether the box belongs on the page: the address that was entered holds a secret."""
        return bool(self.is_bound and egress.secret_in(str(self.data.get(self.add_prefix("server_url"), ""))))

    def clean_server_url(self) -> str:
        """Return the URL in normal form; raises ValidationError with the reason why it cannot be used."""
        entered = str(self.cleaned_data["server_url"])
        unchanged = self.before is not None and entered == self.before.server_url
        if not unchanged:
            self._refuse_placeholder(entered)
        if _TWO_SCHEMES.match(entered):
            self._offer_address(entered)
        try:
            url = egress.check_url(entered)
        except DuvoError as refusal:
            if refusal.code not in _AS_TYPED:
                self._offer_address(entered)
            raise ValidationError(refusal.sentence, code=refusal.code) from refusal
        if unchanged:
            return url
        if not set(entered).isdisjoint("\"'`<>«»“”‘’"):  # no URL has them (RFC 3986, section 2)
            self._offer_address(entered)
        self._refuse_secret(url)
        if self.before is None or url != self.before.server_url:
            self._resolve(url)
        return url

    def _resolve(self, url: str) -> None:
        parts = urlsplit(url)
        https = parts.scheme == "https"
        try:
            with acting_for(self.tenant.pk if self.tenant else None):
                egress.resolve(parts.hostname or "", parts.port or (443 if https else 80), https=https)
        except DuvoError as refusal:
            raise ValidationError(refusal.sentence, code=refusal.code) from refusal

    def _offer_address(self, entered: str) -> None:
        """Raise ValidationError with the address that was pasted along with other things, and put it into the field."""
        found = []
        for address in pastes.addresses_in(entered):
            try:
                found.append(egress.check_url(address))
            except DuvoError as refusal:
                if refusal.code in _AS_TYPED and not found:
                    raise ValidationError(refusal.sentence, code=refusal.code) from refusal
        found = list(dict.fromkeys(found))
        if len(found) > 1:
            hosts = ", ".join(dict.fromkeys(urlsplit(url).netloc for url in found[:5]))
            raise ValidationError(
                f"This holds {len(found)} addresses ({hosts}). Enter the one of the server.", code="several_addresses"
            )
        if not found:
            return
        self._refuse_placeholder(found[0])
        rest = (
            " What else was in it, such as keys and headers, was not taken over: enter that under Authorization."
            if pastes.leftovers_in(entered)
            else ""
        )
        if isinstance(self.data, QueryDict):
            sent = self.data.copy()
            sent[self.add_prefix("server_url")] = found[0]
            self.data = sent
        said = found[0].partition("?")[0]
        raise ValidationError(
            f"The address in what was entered is {said}. If it is right, save again with it alone.{rest}",
            code="address_found",
        )

    def _refuse_placeholder(self, address: str) -> None:
        is_address = address.lower().startswith("http") and len(address) <= egress.LONGEST_URL
        if is_address and (placeholder := pastes.placeholder_in(address)):
            raise ValidationError(
                f"“{placeholder}” is a placeholder. Write what it stands for in its place; the server's owner or its "
                "documentation tells you.",
                code="placeholder",
            )

    def _refuse_secret(self, url: str) -> None:
        """Raise ValidationError for a secret in the address, unless the person has said that it belongs there."""
        kept = self.data.get(self.add_prefix("keep_url_secret"))
        if (where := egress.secret_in(url)) and not forms.BooleanField(required=False).to_python(kept):
            raise ValidationError(
                f"The address seems to hold a secret ({where}), which others could read there. Most servers take it "
                "as a header, too: remove it here, choose API key or Custom headers, and enter it there. If this one "
                "takes it in the address only, keep it (“Keep the secret in the address”; `keep_url_secret` in the "
                "API).",
                code="secret_in_url",
            )


def clean_key(key: Any) -> str:
    """Return a key without quotes around it; raises ValidationError for what stands for a key."""
    text = pastes.unquoted(str(key or ""))
    bare = text.partition(" ")[2].strip() if text.lower().startswith("bearer ") else text
    if pastes.placeholder_in(bare, whole=True):
        raise ValidationError(
            "This is a placeholder, as documentation has it in place of a key. Enter the key itself, without brackets "
            "or braces.",
            code="placeholder",
        )
    return text


def clean_values(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers without quotes around their values; raises ValidationError for what stands for a value."""
    values = {name: pastes.unquoted(value) for name, value in headers.items()}
    for name, value in values.items():
        bare = value.partition(" ")[2].strip() if value.lower().startswith(("bearer ", "basic ", "token ")) else value
        if pastes.placeholder_in(bare, whole=True):
            raise ValidationError(
                f"The value of “{name}” is a placeholder. Enter the value itself, without brackets or braces.",
                code="placeholder",
            )
    return values

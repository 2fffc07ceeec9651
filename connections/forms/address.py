"""The field for the server's address: what was pasted is read, and shown before it is saved."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from connections import egress, sealing
from connections.context import acting_for
from connections.egress import sealed
from connections.errors import DuvoError, SealBroken
from connections.forms import keys, pastes
from connections.models import Authorization, Connection, Credential, Tenant, User

Kind = Credential.Kind
_AS_TYPED = {"private_address", "private_name", "localhost", "port_forbidden", "url_too_long", "https_required",
             "credentials_in_url", "fragment_in_url"}  # fmt: skip

_PLACE = re.compile(r"(?<![${])\{secret\}(?!\})")
_OF_SECRETS = re.compile(r"auth|key|token|secret|passw|pat\b|cred", re.IGNORECASE)  # names of headers
_NO_ADDRESS_YET = re.compile(r"https?:/*https?://|\S{1,2000}&#x?\w{1,6};", re.IGNORECASE)  # two schemes, or HTML


class AddressFields(forms.Form):
    """The address of the server, and whether it may hold a secret that all who see it can read."""

    server_url = forms.CharField(
        label="Server URL",
        max_length=keys.LONGEST,  # of a paste; the address itself is bounded by `egress.check_url`
        widget=forms.TextInput(
            attrs={"inputmode": "url", "autocapitalize": "none", "autocomplete": "off", "spellcheck": "false",
                   "placeholder": "https://mcp.example.com/mcp"}
        ),
        help_text="The public https:// address of your MCP server (streamable HTTP). "
        "Your colleagues can see it, so it must hold no secret.",
    )  # fmt: skip
    address_secret = forms.CharField(
        label="Secret in the address",
        required=False,
        max_length=egress.LONGEST_URL,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "spellcheck": "false"}),
        help_text="Only for a server whose key is part of its address: write {secret} in its place there, as in "
        "https://mcp.example.com/mcp?key={secret}, and enter the key here. It is never shown again.",
    )
    carried_secret = forms.CharField(required=False, widget=forms.HiddenInput, max_length=4 * egress.LONGEST_URL)
    keep_url_secret = forms.BooleanField(
        label="Keep the secret in the address",
        required=False,
        help_text="Not sealed: every admin of the organization can read it there.",
    )
    move_url_secret = forms.BooleanField(
        label="Seal the secret in the address",
        required=False,
        help_text="What is sent stays the same; nobody can read it any more.",
    )

    tenant: Tenant | None
    before: Connection | None
    stored: dict[Any, Credential]
    user: User
    instance: Connection
    _moved: str = ""

    @property
    def asks_about_url_secret(self) -> bool:
        """Whether the box belongs on the page: the address that was entered holds a secret."""
        if not self.is_bound:
            return False
        moved = bool(self.data.get(self.add_prefix("carried_secret")))
        return moved or bool(egress.secret_in(str(self.data.get(self.add_prefix("server_url"), ""))))

    @property
    def offers_to_seal(self) -> bool:
        """Whether the address that is stored holds a secret that can be sealed."""
        method = self.instance.authorization
        return sealed.split(self.instance.server_url, random=method != Authorization.OAUTH) is not None

    def clean_server_url(self) -> str:
        """Return the URL in normal form; raises ValidationError with the reason why it cannot be used."""
        if pastes.is_link(str(self.cleaned_data["server_url"])):
            self._offer_address(str(self.cleaned_data["server_url"]))
        entered = self._apart(sealed.with_place(str(self.cleaned_data["server_url"])))
        unchanged = self.before is not None and entered == self.before.server_url
        if not unchanged:
            self._refuse_placeholder(entered)
        if _NO_ADDRESS_YET.match(entered):
            self._offer_address(entered)
        try:
            url = sealed.with_place(egress.check_url(pastes.PROMPT.sub("", entered)))
        except DuvoError as refusal:
            if refusal.code not in _AS_TYPED:
                self._offer_address(entered)
            raise ValidationError(refusal.sentence, code=refusal.code) from refusal
        if unchanged:
            return url
        if pastes.addresses_in(entered) != [entered]:  # a sentence or a mark of some text is around it
            self._offer_address(entered)
        if sealed.has_place(url) and not sealed.is_well_placed(url):
            raise ValidationError(
                f"{sealed.PLACE} stands once in an address: after a “=” behind the question mark, or in the path.",
                code="bad_place",
            )
        self._refuse_secret(url)
        if self.before is None or url != self.before.server_url:
            self._resolve(url)
        return url

    def _apart(self, entered: str) -> str:
        """Return the address without the one secret that it seems to hold; what becomes of that depends on who asks.

        The person at the form sees it moved out, and saves again; nothing of it is on the page. A program is told how
        to send it. Who says that it is to stay gets it back into its place.
        """
        self._moved = ""
        carried = self._carried(entered)
        if self._ticked("keep_url_secret"):
            return sealed.filled(entered, carried) if carried else entered
        self._moved = carried
        parted = self._parted(entered)
        if parted is None:
            return entered
        if self.before is not None and entered == self.before.server_url:
            if not self._ticked("move_url_secret"):
                return entered
            self._moved = parted.secret
            return parted.address
        if not self._take_out(parted):
            raise ValidationError(
                f"The address seems to hold a secret ({parted.where}), which others could read there. Most servers "
                "take it as a header, too (API key or Custom headers). If this one does not, send the address with "
                f"{sealed.PLACE} in its place and the secret as `address_secret`, where it is sealed; "
                "`keep_url_secret` stores it readable.",
                code="secret_in_url",
            )
        raise ValidationError(
            f"The address seems to hold a secret ({parted.where}), which others could read there. It was taken out and "
            f"is sealed: save again, and it is sent in the place of {sealed.PLACE} and never shown. Most servers take "
            "it as a header, too: then remove it here, choose API key or Custom headers, and enter it there.",
            code="secret_in_url",
        )

    def _parted(self, address: str) -> sealed.Split | None:
        """Return an address apart from its secret; with OAuth what only looks random is the name of a resource."""
        method = self.data.get(self.add_prefix("authorization"))
        parted = sealed.split(address.strip(), random=method != Authorization.OAUTH)
        return None if parted is None or keys.placeholder_in(unquote(parted.secret)) else parted

    def _take_out(self, parted: sealed.Split) -> bool:
        """Show the address without its secret, which waits sealed on the page; False for a program, which has none."""
        if not isinstance(self.data, QueryDict):
            return False
        sent = self.data.copy()
        sent[self.add_prefix("server_url")] = parted.address
        sent[self.add_prefix("carried_secret")] = sealing.seal(parted.secret, context=self._carriage(parted.address))
        self.data = sent
        return True

    def _ticked(self, name: str) -> bool:
        return bool(forms.BooleanField(required=False).to_python(self.data.get(self.add_prefix(name))))

    def _carriage(self, address: str) -> str:
        """Return what a secret that waits on a page is bound to: the person, and the server that it was entered for."""
        return f"carried/{self.user.pk}/{egress.origin(address)}"

    def _carried(self, entered: str) -> str:
        """Return the secret that was taken out of this address a moment ago, "" for none."""
        blob = str(self.data.get(self.add_prefix("carried_secret")) or "")
        if not blob or not sealed.has_place(entered):
            return ""
        try:
            return str(sealing.unseal(blob, context=self._carriage(entered)))
        except SealBroken:
            return ""

    def clean_address_secret(self) -> str:
        """Return the secret as it stands in the address; raises ValidationError for a placeholder."""
        entered = clean_key(self.cleaned_data["address_secret"]).strip()
        return sealed.escaped(entered) if entered else self._moved

    def clean_address(self, data: dict[str, Any]) -> None:
        """Check that the address has a place if there is a secret for it, and the other way round."""
        url, secret = data.get("server_url"), data.get("address_secret")
        if not url or "address_secret" in self.errors:
            return
        if secret and not sealed.has_place(url):
            self.add_error(
                "address_secret",
                ValidationError(f"Write {sealed.PLACE} in the address, where this belongs.", code="no_place"),
            )
        elif secret and len(sealed.filled(url, secret)) > egress.LONGEST_URL:
            self.add_error(
                "address_secret",
                ValidationError(
                    f"The address with it is longer than {egress.LONGEST_URL} characters.", code="too_long"
                ),
            )
        elif sealed.has_place(url) and not secret and Kind.ADDRESS_SECRET not in self.stored:
            self.add_error(
                "address_secret",
                ValidationError(f"Enter what stands for {sealed.PLACE} in the address.", code="required"),
            )

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
            try:  # one with a placeholder is none yet, and is said to be that
                found.append(address if self._placeholder_in(address) else sealed.with_place(egress.check_url(address)))
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
        parted = None if self._ticked("keep_url_secret") else self._parted(found[0])
        if parted is not None and self._take_out(parted):
            rest = f" The secret in it ({parted.where}) is sealed.{rest}"
        elif isinstance(self.data, QueryDict):
            sent = self.data.copy()
            sent[self.add_prefix("server_url")] = found[0]
            self.data = sent
        said = egress.bare(found[0])
        raise ValidationError(
            f"The address in what was entered is {said}. If it is right, save again with it alone.{rest}",
            code="address_found",
        )

    @staticmethod
    def _placeholder_in(address: str) -> str:
        return keys.placeholder_in(_PLACE.sub("", address))

    def _refuse_placeholder(self, address: str) -> None:
        is_address = address.lower().startswith("http") and len(address) <= egress.LONGEST_URL
        if is_address and (placeholder := self._placeholder_in(address)):
            raise ValidationError(
                f"“{placeholder}” is a placeholder. Write what it stands for in its place; the server's owner or its "
                "documentation tells you.",
                code="placeholder",
            )

    def _refuse_secret(self, url: str) -> None:
        """Raise ValidationError for a secret in the address, unless the person has said that it belongs there."""
        where = egress.secret_in(url)
        if where and not self._ticked("keep_url_secret"):
            raise ValidationError(
                f"The address seems to hold a secret ({where}), which others could read there. Most servers take it "
                "as a header, too: remove it here, choose API key or Custom headers, and enter it there. If this one "
                "takes it in the address only, keep it (“Keep the secret in the address”; `keep_url_secret` in the "
                "API).",
                code="secret_in_url",
            )


def clean_key(key: Any, what: str = "key") -> str:
    """Return a key, or `what` else it is, without what stands around it; raises ValidationError for a placeholder."""
    text = keys.assigned(keys.unquoted(str(key or "")))
    bare = keys.without_scheme(text)
    if bare != text:
        bare = keys.unquoted(bare)
        text = f"{text.partition(' ')[0]} {bare}".strip()
    if text and not bare:
        raise ValidationError(
            f"Behind “{text.title()}” the {what} is missing. Enter the {what} itself.", code="placeholder"
        )
    if name := keys.name_before(bare) or keys.name_before(text):
        header = " If the server wants a header of that name, choose Custom headers and enter both there."
        raise ValidationError(
            f"This begins with a name (“{name[:60]}”). Enter only the {what} that follows it."
            f"{header if what == 'key' else ''}",
            code="name_before_key",
        )
    if keys.placeholder_in(bare, whole=True, words=True):
        raise ValidationError(
            f"This is a placeholder, or a {what} of which a part is hidden. Enter the whole {what} itself, without "
            "brackets or braces.",
            code="placeholder",
        )
    return text


def clean_values(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers without quotes around their values; raises ValidationError for what stands for a value."""
    values = {name: keys.unquoted(value) for name, value in headers.items()}
    for name, value in values.items():
        bare = keys.without_scheme(value, any_scheme=name.lower().endswith("authorization"))
        words = bare != value or _OF_SECRETS.search(name) is not None
        if not bare or keys.placeholder_in(keys.unquoted(bare), whole=True, words=words):
            raise ValidationError(
                f"The value of “{name}” is a placeholder, or a part of it is hidden. Enter the whole value itself, "
                "without brackets or braces.",
                code="placeholder",
            )
    return values

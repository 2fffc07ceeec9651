"""The fields that say how to sign in with OAuth; left alone, everything is found out from the server."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError

from connections import egress, signing_keys
from connections.errors import DuvoError
from connections.forms import keys
from connections.forms.address import clean_key
from connections.forms.fields import ChoiceField, WriteOnlyTextarea
from connections.models import Authorization, Connection, Credential, Grant, Sharing, TokenAuth

Kind = Credential.Kind
CHOICES = ("sharing", "oauth_grant")
OAUTH_FIELDS = (
    "sharing", "oauth_grant", "oauth_client_id", "oauth_token_auth", "oauth_scopes", "oauth_resource",
    "oauth_omit_resource", "oauth_authorization_server", "oauth_assume_pkce",
)  # fmt: skip
WHAT_IS_TRUSTED = ("oauth_authorization_server", "oauth_assume_pkce")
WHAT_SIGN_INS_HANG_ON = ("sharing", "oauth_grant", "oauth_client_id", *WHAT_IS_TRUSTED)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749, appendix A.4
_SCOPES_NAMED = re.compile(r"^[\"']?(?:[\w-]{0,20}[_-])?scopes?[\"']?\s*[:=]\s*(?!/)(?=\S)", re.IGNORECASE)
_SCOPES_MEANT = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_SCOPES?|SCOPES?")
_LONGEST_SECRET = 4096  # characters


def _scopes_in(entered: str) -> str:
    """Return scopes without a name, quotes or brackets around them; raises ValidationError for a placeholder."""
    text = keys.unquoted(_SCOPES_NAMED.sub("", keys.unquoted(entered)))
    if re.search(r"[\"“”]", entered):  # which no scope has (RFC 6749, section 3.3): a list in JSON
        text = re.sub(r"[\"“”\[\]]", " ", text)
    text = " ".join(keys.unquoted(scope) for scope in text.replace(",", " ").split())
    if keys.placeholder_in(text) or keys.placeholder_in(text, whole=True) or _SCOPES_MEANT.fullmatch(text):
        raise ValidationError(
            "This is a placeholder. Enter the scopes themselves, or leave it blank to ask for what the server says it "
            "needs.",
            code="placeholder",
        )
    return text


class OAuthFields(forms.Form):
    """Who signs in, and what an admin may set who has registered a client at the provider."""

    sharing = ChoiceField(
        label="Whose credential",
        required=False,
        choices=Sharing.choices,
        widget=forms.RadioSelect,
        initial=Sharing.SHARED,
        help_text="With each member's own, people connect themselves: they sign in, or enter their own key or headers. "
        "What you enter here is then yours.",
    )
    oauth_client_id = forms.CharField(
        label="Client ID",
        required=False,
        max_length=Connection.oauth_client_id.field.max_length,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Only if the server does not register clients by itself.",
    )
    oauth_client_secret = forms.CharField(
        label="Client secret",
        required=False,
        strip=True,
        max_length=_LONGEST_SECRET,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="A public client has none.",
    )
    remove_oauth_client_secret = forms.BooleanField(label="Remove the stored client secret", required=False)
    oauth_grant = ChoiceField(label="Grant", required=False, choices=Grant.choices, help_text="How tokens are got.")
    oauth_token_auth = ChoiceField(
        label="Client authentication",
        required=False,
        choices=TokenAuth.choices,
        help_text="How the client proves who it is at the token endpoint.",
    )
    oauth_signing_key = forms.CharField(
        label="Signing key",
        required=False,
        max_length=signing_keys.LONGEST_PEM,
        widget=WriteOnlyTextarea(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false"}),
        help_text="For private_key_jwt: a private key in PEM. Without one it is made here.",
    )
    remove_oauth_signing_key = forms.BooleanField(label="Remove the stored signing key", required=False)
    oauth_scopes = forms.CharField(
        label="Scopes",
        required=False,
        max_length=Connection.oauth_scopes.field.max_length,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Separated by spaces. Leave blank to ask for what the server says it needs.",
    )
    oauth_resource = forms.CharField(
        label="Resource",
        required=False,
        max_length=Connection.oauth_resource.field.max_length,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Only if the provider knows the server under another name than its URL.",
    )
    oauth_omit_resource = forms.BooleanField(
        label="Send no resource", required=False, help_text="For providers that refuse it, such as Entra."
    )
    oauth_authorization_server = forms.CharField(
        label="Authorization server",
        required=False,
        max_length=Connection.oauth_authorization_server.field.max_length,
        widget=forms.TextInput(
            attrs={"inputmode": "url", "autocapitalize": "none", "autocomplete": "off", "spellcheck": "false"}
        ),
        help_text="The issuer that you trust, or the address of its metadata document (it has “/.well-known/” in it): "
        "people sign in there, whatever the server's own documents say. Changing it ends the sign-ins.",
    )
    oauth_assume_pkce = forms.BooleanField(
        label="PKCE is supported though not announced",
        required=False,
        help_text="You know that the authorization server checks PKCE (S256), which keeps a stolen code from being of "
        "use, though its documents do not say so; if it does not, nothing does. Taking it back ends the sign-ins.",
    )

    stored: dict[Any, Credential]
    before: Connection | None

    def clean_oauth_client_id(self) -> str:
        """Return the client ID; raises ValidationError for one that cannot be sent."""
        client_id = str(self.cleaned_data["oauth_client_id"]).strip()
        if self.before is None or client_id != self.before.oauth_client_id:
            client_id = clean_key(client_id, "client ID")
        if not (client_id.isascii() and (client_id.isprintable())):
            raise ValidationError("A client ID has only plain ASCII characters. Copy it again.", code="bad_client_id")
        return client_id

    def clean_oauth_client_secret(self) -> str:
        """Return the client secret; raises ValidationError for one that cannot be sent."""
        secret = clean_key(self.cleaned_data["oauth_client_secret"], "client secret")
        if not (secret.isascii() and secret.isprintable()):
            raise ValidationError("A client secret has only plain ASCII characters. Copy it again.", code="bad_secret")
        return secret

    def clean_oauth_signing_key(self) -> str:
        """Return the key in PEM; raises ValidationError for what is none."""
        pem = str(self.cleaned_data["oauth_signing_key"]).strip()
        if not pem:
            return ""
        try:
            signing_keys.check(pem)
        except signing_keys.BadKey as fault:
            raise ValidationError(str(fault), code="bad_signing_key") from None
        return f"{pem}\n"

    def clean_oauth_scopes(self) -> str:
        """Return the scopes with single spaces; raises ValidationError for what no scope can be."""
        entered = str(self.cleaned_data["oauth_scopes"])
        if self.before is None or entered != self.before.oauth_scopes:
            entered = _scopes_in(entered)
        scopes = entered.replace(",", " ").split()
        bad = next((scope for scope in scopes if not _SCOPE.fullmatch(scope)), None)
        if bad is not None:
            raise ValidationError(f"“{bad[:60]}” cannot be a scope. Separate scopes by spaces.", code="bad_scope")
        return " ".join(dict.fromkeys(scopes))

    def clean_oauth_resource(self) -> str:
        """Return the resource; raises ValidationError for what is no absolute URI (RFC 8707, section 2)."""
        resource = str(self.cleaned_data["oauth_resource"]).strip()
        try:
            scheme = urlsplit(resource).scheme
        except ValueError:
            scheme = ""
        if resource and (not scheme or "#" in resource or not resource.isascii() or " " in resource):
            raise ValidationError(
                "A resource is a URI such as https://mcp.example.com/mcp, without a part after #.", code="bad_resource"
            )
        return resource

    def clean_oauth_authorization_server(self) -> str:
        """Return the address in normal form; raises ValidationError for one that is never asked."""
        entered = str(self.cleaned_data["oauth_authorization_server"]).strip().strip("<>\"'`")
        if not entered or (self.before is not None and entered == self.before.oauth_authorization_server):
            return entered
        try:
            url = egress.check_url(entered)
        except DuvoError as refusal:
            raise ValidationError(refusal.sentence, code=refusal.code) from refusal
        if where := egress.secret_in(url):
            raise ValidationError(
                f"This seems to hold a secret ({where}), which others could read here. Enter it without.",
                code="secret_in_url",
            )
        return url  # an issuer is a name first: whether its address may be reached is asked when it is

    def clean_oauth(self, data: dict[str, Any]) -> None:
        """Check what depends on several of these fields, and make a signing key where one is needed."""
        if data.get("authorization") != Authorization.OAUTH:
            return
        client_id, secret = data.get("oauth_client_id", ""), data.get("oauth_client_secret")
        signs = data.get("oauth_token_auth") == TokenAuth.PRIVATE_KEY_JWT
        kept = Kind.OAUTH_CLIENT_SECRET in self.stored and not data.get("remove_oauth_client_secret")
        if secret and not client_id:
            self._refuse("oauth_client_id", "Enter the client ID that belongs to this secret.", "client_id_missing")
        if kept and not secret and client_id and self.before and client_id != self.before.oauth_client_id:
            self._refuse(
                "oauth_client_secret",
                "The stored secret belongs to the client ID before. Enter the one of the new client ID, or remove it.",
                "secret_of_another_client",
            )
        if data.get("oauth_grant") == Grant.CLIENT_CREDENTIALS:
            if not client_id:
                self._refuse("oauth_client_id", "Client credentials need a client ID.", "client_id_missing")
            elif not (secret or kept or signs):
                self._refuse(
                    "oauth_client_secret",
                    "Client credentials need a client secret, or private_key_jwt.",
                    "client_secret_missing",
                )
            if data.get("sharing") == Sharing.PERSONAL:
                self._refuse(
                    "sharing",
                    "With client credentials nobody signs in: choose one for the organization.",
                    "nobody_signs_in",
                )
        needs_key = Kind.OAUTH_SIGNING_KEY not in self.stored or data.get("remove_oauth_signing_key")
        if signs and needs_key and not data.get("oauth_signing_key") and "oauth_signing_key" not in self.errors:
            data["oauth_signing_key"] = signing_keys.make()

    def _refuse(self, field: str, sentence: str, code: str) -> None:
        self.add_error(field, ValidationError(sentence, code=code))

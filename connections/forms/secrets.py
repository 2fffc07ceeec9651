"""The fields for what is secret, and what becomes of it: it only goes in, and to the server it was entered for."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q

from connections import egress
from connections import headers as header_rules
from connections.egress import sealed
from connections.forms.address import clean_key, clean_values
from connections.forms.fields import HeadersField
from connections.models import ACTING, Authorization, Connection, Credential, User
from connections.models.connection import METHOD_OF
from connections.models.credential import NOT_SENT, SecretKind

Kind = Credential.Kind


class SecretFields(forms.Form):
    """The API key, the headers and the extra headers of a connection; a blank field means keep, a box removes."""

    api_key = forms.CharField(
        label="API key",
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "spellcheck": "false"}),
        help_text="A leading “Bearer” is dropped: we add it.",
    )
    api_key_header = forms.CharField(
        label="Header",
        required=False,
        max_length=header_rules.LONGEST_NAME,
        widget=forms.TextInput(attrs={"placeholder": "Authorization: Bearer", "autocomplete": "off"}),
        help_text="The header that carries the key. Leave blank to send “Authorization: Bearer” and the key.",
    )
    remove_api_key = forms.BooleanField(label="Remove the stored API key", required=False)
    headers = HeadersField(
        label="Headers", help_text="One “Name: value” per line. Only the names are ever shown again."
    )
    remove_headers = forms.BooleanField(label="Remove the stored headers", required=False)
    extra_headers = HeadersField(
        label="Extra headers", help_text="Sent with every request, whatever the method. One “Name: value” per line."
    )
    remove_extra_headers = forms.BooleanField(label="Remove the stored extra headers", required=False)

    stored: dict[Any, Credential]
    before: Connection | None
    instance: Connection
    user: User

    def clean_api_key(self) -> str:
        """Return the key without quotes around it; raises ValidationError for a placeholder."""
        return clean_key(self.cleaned_data["api_key"])

    def clean_headers(self) -> dict[str, str]:
        """Return the headers; raises ValidationError for a value that is a placeholder."""
        return clean_values(self.cleaned_data["headers"])

    def clean_extra_headers(self) -> dict[str, str]:
        """Return the extra headers; raises ValidationError for a value that is a placeholder."""
        return clean_values(self.cleaned_data["extra_headers"])

    def clean_api_key_header(self) -> str:
        """Return the header's name; raises ValidationError for one that may not be set."""
        name = str(self.cleaned_data["api_key_header"])
        if name.lower().rstrip(":") in {"authorization", "authorization: bearer"}:
            raise ValidationError(
                "Leave this blank to send “Authorization: Bearer”. For another scheme choose Custom headers.",
                code="bad_header",
            )
        if name:
            try:
                header_rules.check_name(name)
            except header_rules.BadHeader as fault:
                raise ValidationError(str(fault), code="bad_header") from fault
        return name

    def stored_for(self, user: User) -> dict[Any, Credential]:
        """Return what is stored and this form replaces: the organization's, and of a personal connection one's own."""
        own = self.instance.own_kind
        mine = Q(owner=None) if own is None else Q(owner=None) & ~Q(kind=own) | Q(owner=user, kind=own)
        rows = self.instance.credentials.filter(mine).select_related("set_by")
        return {Kind(row.kind): row for row in rows}

    def clean_secrets(self, data: dict[str, Any]) -> None:
        """Check what depends on the method and on where the server is."""
        self._find_method(data)
        self._clean_own(data)
        self._clean_api_key(data)
        self._clean_extra_headers(data)
        self._clean_origin(data)

    def _find_method(self, data: dict[str, Any]) -> None:
        """Take the method whose secret was entered where none is chosen; never drop a secret in silence."""
        method, was = data.get("authorization"), self.before.authorization if self.before else Authorization.NONE
        entered = {kind: its_method for kind, its_method in METHOD_OF.items() if data.get(kind)}
        strange = [kind for kind, its_method in entered.items() if its_method != method]
        if method is None or not strange:
            return
        open_ = not method or method == was == Authorization.NONE
        if open_ and len(methods := set(entered.values())) == 1:
            data["authorization"] = self.instance.authorization = methods.pop().value
            return
        labels = " and ".join(f"“{self.fields[kind].label}”" for kind in strange)
        if not method:
            sentence = f"{labels} were filled in. Choose the method that is meant, and enter its secret again."
            self.add_error("authorization", ValidationError(sentence, code="other_method"))
            return
        self.add_error(
            "authorization",
            ValidationError(
                f"{labels} was filled in, which does not belong to the method “{Authorization(method).label}”. Choose "
                "its method and enter it again, or save without it: it is blank now.",
                code="other_method",
            ),
        )

    def _clean_own(self, data: dict[str, Any]) -> None:
        """Refuse something of one's own from a person for whom no assignment can act."""
        kind, tenant = _own_kind(data), self.instance.tenant_id or getattr(data.get("tenant"), "pk", None)
        acting_in = {tenant for tenant, role in self.user.own_roles.items() if role in ACTING}
        if kind is not None and data.get(kind) and tenant not in acting_in:
            self.add_error(
                kind,
                ValidationError(
                    "Only members of the organization have something of their own here, and you are none. Leave it "
                    "blank: each member enters their own.",
                    code="not_a_member",
                ),
            )

    def _clean_api_key(self, data: dict[str, Any]) -> None:
        if data.get("authorization") != Authorization.API_KEY or not data.get("api_key"):
            return
        try:
            data["api_key"] = header_rules.parse_api_key(data["api_key"], as_bearer=not data.get("api_key_header"))
        except header_rules.BadHeader as fault:
            self.add_error("api_key", ValidationError(str(fault), code="bad_header"))

    def _clean_extra_headers(self, data: dict[str, Any]) -> None:
        extra = {name.lower(): name for name in self._header_names(Kind.EXTRA_HEADERS, data)}
        field = "extra_headers" if data.get("extra_headers") else "headers"
        method = data.get("authorization")
        if "authorization" in extra:
            self.add_error(
                "extra_headers",
                ValidationError(
                    "“Authorization” belongs to the authorization method. Choose Custom headers and enter it there.",
                    code="bad_header",
                ),
            )
        taken: list[str] = []
        if method == Authorization.HEADERS:
            taken = self._header_names(Kind.HEADERS, data)
        elif method == Authorization.API_KEY and data.get("api_key_header"):
            taken, field = [data["api_key_header"]], "api_key_header"
        for name in taken:
            if name.lower() in extra:
                self.add_error(
                    field, ValidationError(f"“{name}” is set twice, here and in another place.", code="bad_header")
                )

    def _header_names(self, kind: str, data: dict[str, Any]) -> list[str]:
        if data.get(kind):
            return list(data[kind])
        if kind in self.stored and not data.get(f"remove_{kind}"):
            return list(self.stored[Kind(kind)].header_names)
        return []

    def _clean_origin(self, data: dict[str, Any]) -> None:
        """Refuse to send a stored secret to another server than the one it was entered for."""
        url = data.get("server_url")
        if self.before is None or not url:
            return
        own = _own_kind(data)
        for kind, row in self.stored.items():
            if kind == own:  # what others entered is of no use there either: each enters it again
                continue
            if kind in NOT_SENT or row.origin == egress.origin(url):
                continue
            used = self._is_used(kind, data.get("authorization", ""), url)
            if used and not data.get(kind) and not data.get(f"remove_{kind}") and kind not in self.errors:
                host = urlsplit(row.origin or self.before.server_url).netloc
                self.add_error(
                    kind,
                    ValidationError(
                        f"What is stored here was entered for {host} and is not sent to another server. "
                        "Enter it for the new server, or remove it.",
                        code="secret_of_another_server",
                    ),
                )

    @staticmethod
    def _is_used(kind: str, method: str, url: str) -> bool:
        if kind == Kind.ADDRESS_SECRET:
            return sealed.has_place(url)
        return kind == Kind.EXTRA_HEADERS or METHOD_OF[Kind(kind)] == method

    def save_secrets(self, connection: Connection) -> list[str]:
        """Store, keep or forget each secret; return which changed."""
        changed, own = self._save_own(connection)
        for kind in Kind:
            if kind == own:
                continue
            entered = self.cleaned_data.get(kind)
            used = self._is_used(kind, connection.authorization, connection.server_url)
            if used and kind == Kind.OAUTH_CLIENT_SECRET and not connection.oauth_client_id:
                used = False  # a secret without its client ID is of no use
            if used and entered:
                before = self.stored.get(kind)
                row = before if before and before.owner_id is None else Credential(connection=connection, kind=kind)
                row.set(entered, by=self.user)
                changed.append(f"{kind} {'replaced' if before else 'set'}")
            elif kind in self.stored and (not used or self.cleaned_data.get(f"remove_{kind}")):
                gone = Credential.objects.filter(pk=self.stored[kind].pk).delete()[0]
                changed += [f"{kind} removed"] if gone else []
        return changed

    def _save_own(self, connection: Connection) -> tuple[list[str], str | None]:
        """Store or forget this person's own, and forget what is no longer used: of others, or of the organization."""
        own, changed = connection.own_kind, []
        rows = Credential.objects.filter(connection=connection)
        personal_rows = rows.filter(owner__isnull=False)
        if (personal_rows if own is None else personal_rows.exclude(kind=own)).delete()[0]:
            changed.append("own removed")
        if own is None:
            return changed, None
        if rows.filter(owner=None, kind=own).delete()[0]:
            changed.append(f"{own} removed")
        mine = rows.filter(owner=self.user, kind=own)
        entered = self.cleaned_data.get(own)
        if entered or self.cleaned_data.get(f"remove_{own}"):
            before = mine.delete()[0]
            if entered:
                Credential(connection=connection, kind=own, owner=self.user).set(entered, by=self.user)
            changed.append(f"{own} {('replaced' if before else 'set') if entered else 'removed'}")
        return changed, own


def _own_kind(data: dict[str, Any]) -> SecretKind | None:
    """Return what each member enters for themselves, as the form has it now."""
    return Connection(authorization=data.get("authorization") or "none", sharing=data.get("sharing") or "").own_kind

"""The one way a connection is made or changed: by the admin, by the API and by the demo.

    form = ConnectionForm(data, instance=connection, tenant=tenant, user=user)
    if form.is_valid():
        connection = form.save()

A change is checked against the row as it was given; if that has changed by the time of saving, nothing is saved
(`Superseded`).
Secrets only go in: a blank one means keep, a box removes it, and none is ever sent to a server it was not entered for.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import transaction
from django.db.models import Model, Value
from django.db.models.functions import Lower
from django.dispatch import Signal

from connections import audit, changes, checking, names, personal, quotas
from connections.forms.address import AddressFields
from connections.forms.fields import ChoiceField, NameField, seconds
from connections.forms.oauth import CHOICES, OAUTH_FIELDS, WHAT_IS_TRUSTED, WHAT_SIGN_INS_HANG_ON, OAuthFields
from connections.forms.secrets import SecretFields
from connections.forms.shown import SHOWN, Superseded
from connections.forms.tenants import TenantForm
from connections.models import AuditEvent, Authorization, Connection, Credential, Era, SessionCalls, Tenant
from connections.states import ReachabilityState, ToolsState

Kind = Credential.Kind
ADVANCED = (
    "connect_timeout", "idle_timeout", "call_timeout", "max_concurrency", "max_answer", "session_calls",
    "session_idle_minutes", "era_choice",
)  # fmt: skip
_NO_SETTINGS = ("keep_url_secret", "move_url_secret", "carried_secret")
LARGEST_ANSWER = 10_000_000  # bytes
PREFIX_TAKEN = "The tools of another connection of this organization begin with this. Choose a different one."
NAME_TAKEN = "Another connection of this organization has this name. Choose a different one."
changing = Signal()  # `before` becomes `connection`, in a transaction; the secrets of before are still stored


class ConnectionForm(AddressFields, SecretFields, OAuthFields, TenantForm):
    """Name, server, authorization method with its secret, and the advanced settings of a connection."""

    tool_prefix = forms.CharField(
        label="Prefix of its tools",
        required=False,
        max_length=names.PREFIX_LENGTH + len("__"),
        widget=forms.TextInput(attrs={"autocapitalize": "none", "autocomplete": "off", "spellcheck": "false"}),
        help_text="Assignments see its tools as “prefix__tool”. Leave blank to have it made from the name. It stays as "
        "it is when the connection gets another name.",
    )
    authorization = ChoiceField(
        label="Authorization method",
        choices=Authorization.choices,
        widget=forms.RadioSelect,
        initial=Authorization.NONE,
        help_text="How the server knows that we may call it. Another method forgets the secret of the one before.",
    )
    connect_timeout = seconds(
        "Connect timeout", 60, "Seconds to wait until the server accepts the connection, 1 to 60."
    )
    idle_timeout = seconds("Idle timeout", 600, "Seconds without any sign of life from the server, 1 to 600.")
    call_timeout = seconds(
        "Call timeout", settings.LONGEST_CALL, f"Seconds that one call may take in all, 1 to {settings.LONGEST_CALL:,}."
    )
    max_concurrency = forms.IntegerField(
        label="Concurrent calls",
        required=False,
        validators=[MinValueValidator(1), MaxValueValidator(2_000)],
        help_text="How many calls may run on the server at the same time, counted over all our processes, 1 to 2,000.",
    )
    max_rate = forms.IntegerField(
        label="Calls per minute",
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="How many calls may be made in a minute. Leave blank for no limit.",
    )
    max_answer = forms.IntegerField(
        label="Largest answer",
        required=False,
        validators=[MinValueValidator(1_000), MaxValueValidator(LARGEST_ANSWER)],
        help_text=f"Bytes that are read of one answer of the server, 1,000 to {LARGEST_ANSWER:,}. What is large in it "
        "is stored and linked; a call whose answer is larger has no known outcome.",
    )
    session_calls = ChoiceField(
        label="Calls of one session",
        required=False,
        choices=SessionCalls.choices,
        help_text="A server that remembers, such as a browser, may need its calls one after the other. Calls of "
        "different assignments always run side by side.",
    )
    session_idle_minutes = forms.IntegerField(
        label="Session idle time",
        required=False,
        validators=[MinValueValidator(1), MaxValueValidator(1_440)],
        help_text="Minutes without a call after which what the server remembers for an assignment is given up, 1 to "
        "1,440.",
    )
    send_trace = forms.BooleanField(
        label="Send the trace context",
        required=False,
        help_text="The server sees which of your calls belong together.",
    )
    era_choice = ChoiceField(
        label="Protocol era",
        required=False,
        choices=Era.choices,
        help_text="Which generation of MCP to speak. Detection is right for almost every server.",
    )

    class Meta:
        model = Connection
        fields = [
            "tenant", "name", "server_url", "authorization", "api_key_header", "enabled",
            "connect_timeout", "idle_timeout", "call_timeout", "max_concurrency", "max_rate", "max_answer",
            "session_calls", "session_idle_minutes", "send_trace", "era_choice", *OAUTH_FIELDS,
        ]  # fmt: skip
        field_classes = {"name": NameField}
        help_texts = {
            "name": "How you and your colleagues call it.",
            "enabled": "A disabled connection is neither checked nor called.",
        }

    changed_by = ("changed", "enabled", "disabled")
    is_open = False  # whether the method is still to be found out, of a server whose address can be used

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Show beside each secret whether one is stored."""
        super().__init__(*args, **kwargs)
        # The very row that the caller has read, and not a newer one: `save` compares it with what is stored then.
        self.before = copy(self.instance) if self.is_change else None
        self.stored = self.stored_for(self.user) if self.is_change else {}
        for kind in Kind:
            if kind in self.stored:
                self.fields[
                    kind
                ].help_text = (
                    f"{self.stored[kind].summary} Leave blank to keep it. {self.fields[kind].help_text}".strip()
                )
            else:
                self.fields.pop(f"remove_{kind}", None)  # that in the address is removed with its place there
        if not self.is_change:
            self._leave_method_open()
        else:
            del self.fields["tool_prefix"]
            self.fields["name"].help_text = (
                f"How you and your colleagues call it. The names of its tools begin with “{self.instance.slug}__”, "
                "also when you change it."
            )
        for name in ADVANCED:
            self.fields[name].initial = getattr(Connection, name).field.default
        self.fields["name"].widget.attrs.setdefault("autocomplete", "off")

    def _leave_method_open(self) -> None:
        """Let the method of a new connection be found out; only the address is asked for at first."""
        method = self.fields["authorization"]
        method.choices = [("", "Find out"), *Authorization.choices]  # type: ignore[attr-defined]
        method.required, method.initial = False, ""
        method.help_text = "How the server knows that we may call it. It is found out once the address is entered."
        self.fields["name"].required = bool(self.data.get(self.add_prefix("authorization")))

    @property
    def has_advanced_errors(self) -> bool:
        """Whether the advanced settings must be open because one of them is wrong."""
        return not self.errors.keys().isdisjoint(
            {*ADVANCED, "max_rate", *OAUTH_FIELDS, "oauth_client_secret", "oauth_signing_key", "extra_headers"}
        )

    @classmethod
    def data_of(cls, connection: Connection) -> dict[str, Any]:
        """Return what the form would send to leave this connection as it is; a program's partial change starts here."""
        return {name: getattr(connection, name) for name in cls.Meta.fields if name != "tenant"}

    # --- what was entered ---

    def clean_tool_prefix(self) -> str:
        """Return the prefix; raises ValidationError for one that cannot begin the names of tools, or is taken."""
        prefix = str(self.cleaned_data["tool_prefix"]).removesuffix("__")
        if prefix and not names.is_prefix(prefix):
            raise ValidationError(
                f"A prefix has small letters, digits and single hyphens between them, at most {names.PREFIX_LENGTH}.",
                code="bad_prefix",
            )
        if prefix and self.tenant is not None and self.tenant.connections.filter(slug=prefix).exists():
            raise ValidationError(PREFIX_TAKEN, code="duplicate")
        return prefix

    def clean_name(self) -> str:
        """Return the name; raises ValidationError for one that another connection has."""
        name = str(self.cleaned_data["name"])
        if self.tenant is not None and self._name_is_taken(self.tenant, name):
            raise ValidationError(NAME_TAKEN, code="duplicate")
        return name

    def clean(self) -> dict[str, Any]:
        """Check what depends on several fields."""
        data = self.cleaned_data
        if self.before is not None:  # without a lock, as DNS may be slow: `save` locks and compares again
            self.compare(self.before)
        data.pop(SHOWN, None)
        if self.before is None and (tenant := self.tenant or data.get("tenant")):
            self._check_quota(tenant)
        for name in (*ADVANCED, *CHOICES):
            if data.get(name) in (None, "") and name not in self.errors:  # left blank: as before, or the default
                data[name] = getattr(self.before or Connection(), name)
        if data.get("tenant") and self.tenant is None and self._name_is_taken(data["tenant"], data.get("name", "")):
            self.add_error("name", ValidationError(NAME_TAKEN, code="duplicate"))
        chosen = data.get("tool_prefix") if self.tenant is None and data.get("tenant") else ""
        if chosen and data["tenant"].connections.filter(slug=chosen).exists():
            self.add_error("tool_prefix", ValidationError(PREFIX_TAKEN, code="duplicate"))
        self.clean_address(data)
        self.clean_secrets(data)
        self.clean_oauth(data)
        self._ask_for_the_rest(data)
        return data

    def _ask_for_the_rest(self, data: dict[str, Any]) -> None:
        """Refuse a new connection whose method was left open, and one without a name where it was not."""
        if "authorization" in self.errors:
            return
        if data.get("authorization"):
            if not data.get("name") and "name" not in self.errors:
                self.add_error("name", ValidationError("This field is required.", code="required"))
        elif "server_url" not in self.errors:
            self.is_open = True
            self.add_error("authorization", ValidationError("Choose a method.", code="required"))

    def _name_is_taken(self, tenant: Tenant, name: str) -> bool:
        # The same comparison as the database's constraint, so that the constraint is never violated.
        named = tenant.connections.annotate(lower_name=Lower("name")).filter(lower_name=Lower(Value(name)))
        return named.exclude(pk=self.instance.pk).exists()

    def _values(self, row: Model) -> dict[str, Any]:
        # The revision counts changes of secrets, too, of which no page shows anything.
        return super()._values(row) | {"revision": getattr(row, "revision", 0)}

    def also_changed(self, event: AuditEvent) -> list[str]:
        """Return which secrets this event changed."""
        return [Kind(name.partition(" ")[0]).label for name in event.data.get("secrets", [])]

    @staticmethod
    def _check_quota(tenant: Tenant) -> None:
        try:
            quotas.check(quotas.CONNECTIONS, tenant, tenant.connections.all())
        except quotas.QuotaReached as full:
            raise ValidationError({NON_FIELD_ERRORS: ValidationError(full.sentence, code=full.code)}) from full

    def _get_validation_exclusions(self) -> set[str]:
        # The database's constraint is not asked here: `save` asks again where nobody can come in between.
        return super()._get_validation_exclusions() | {"name"}

    # --- saving ---

    def save(self, commit: bool = True) -> Connection:
        """Store what was changed of the connection, and its secrets, and ask for a check.

        Raises ValidationError when somebody was quicker with the same name, or with the last place of the
        organization's quota (the form then says so), and Superseded when the connection is no longer as it was when
        this form was made. Then nothing is stored.
        """
        with transaction.atomic():
            connection: Connection = self.instance
            # One connection of a tenant is saved at a time, so the name and the slug are still free when written.
            tenant = Tenant.objects.select_for_update(no_key=True).get(pk=connection.tenant_id)
            if self._name_is_taken(tenant, connection.name):
                raise ValidationError({"name": ValidationError(NAME_TAKEN, code="duplicate")})
            if self.before is None:
                self._check_quota(tenant)
                connection.slug = self._free_prefix(tenant, connection.name)
                connection.created_by = self.user
                connection.save(force_insert=True)
            else:
                self._write_changes(connection, self.before)
                changing.send(ConnectionForm, connection=connection, before=self.before)
            changed_secrets = self.save_secrets(connection)
            self._reset_states(connection, secret_changed=bool(changed_secrets))
            fields = [
                name
                for name in self.changed_data
                if name not in {*_NO_SETTINGS, *Kind.values, *(f"remove_{k}" for k in Kind)}
            ]
            verb = "created" if self.before is None else "changed"
            told: dict[str, Any] = {name: self.cleaned_data[name] or "no" for name in WHAT_IS_TRUSTED if name in fields}
            if self.before is not None:
                told["changes"] = changes.of(self, fields, self.before)
            audit.record(
                self.user, f"connection.{verb}", connection, tenant=tenant, fields=fields, secrets=changed_secrets,
                **told,
            )  # fmt: skip
            checking.request_check(connection)
        return connection

    def _free_prefix(self, tenant: Tenant, name: str) -> str:
        """Return the prefix that was chosen, or one made of the name; raises ValidationError for a taken one."""
        chosen = str(self.cleaned_data.get("tool_prefix") or "")
        if chosen and tenant.connections.filter(slug=chosen).exists():
            raise ValidationError({"tool_prefix": ValidationError(PREFIX_TAKEN, code="duplicate")})
        return chosen or tenant.connections.all().free_slug(name)

    def _write_changes(self, connection: Connection, before: Connection) -> None:
        """Write the fields that were changed, with the row locked; raises Superseded if it was not as `before`."""
        now = Connection.objects.select_for_update(no_key=True).filter(pk=connection.pk).first()
        if now is None or now.revision != before.revision:
            raise Superseded(self.marks(before))
        changed = [name for name in self.Meta.fields if getattr(connection, name) != getattr(now, name)]
        for field in Connection._meta.concrete_fields:  # noqa: SLF001 - Django's documented name
            if field.name not in changed:  # such as the states, which checks and calls change
                setattr(connection, field.attname, getattr(now, field.attname))
        connection.revision = now.revision + 1
        connection.save(update_fields=[*changed, "revision", "updated_at"])

    def _reset_states(self, connection: Connection, *, secret_changed: bool) -> None:
        """Reset the states if the server or a secret is another now; the check that follows finds them out."""
        before = self.before
        moved = before is not None and before.server_url != connection.server_url
        if moved or (before is not None and before.era_choice != connection.era_choice):
            connection.record(era="", protocol_version="", server_name="", server_version="")
        if moved:
            connection.set_reachability(ReachabilityState.UNKNOWN)
            connection.set_tools_state(ToolsState.NEVER_LISTED)
        oauth = connection.authorization == Authorization.OAUTH
        other_sign_in = oauth and any(
            getattr(before, name, None) != getattr(connection, name) for name in WHAT_SIGN_INS_HANG_ON
        )
        other_secret = secret_changed and not oauth
        if connection.own_kind is not None:
            personal.settle(connection)
        elif (
            moved or other_sign_in or other_secret or before is None or before.authorization != connection.authorization
        ):
            connection.set_credential_state(*connection.credential_as_stored())

"""The serializers of connections and of what an organization may have of them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from connections.models import Authorization, Connection, Era, Grant, SessionCalls, Sharing, TokenAuth
from connections.states import METHOD_WANTED, next_step
from tools.api import members
from tools.api.serializers import ChoiceField, KnownMembers


class StateSerializer(serializers.Serializer[Any]):
    """One of the three states of a connection."""

    state = serializers.CharField()
    reason = serializers.CharField(help_text="A stable code; empty when all is well.")
    sentence = serializers.CharField()
    since = serializers.DateTimeField()


class ConnectionSerializer(serializers.ModelSerializer[Connection]):
    """A connection with its three states; never a secret."""

    server_url = serializers.SerializerMethodField()
    status = serializers.CharField(source="headline", help_text="One word derived from the three states.")
    next_step = serializers.SerializerMethodField()
    credential = serializers.SerializerMethodField()
    reachability = serializers.SerializerMethodField()
    tools = serializers.SerializerMethodField()

    class Meta:
        model = Connection
        fields = [
            "id", "name", "slug", "server_url", "authorization", "sharing", "enabled", "era", "protocol_version",
            "status", "next_step", "credential", "reachability", "tools", "probed_at", "created_at",
        ]  # fmt: skip

    def get_server_url(self, connection: Connection) -> str:
        """The server's address, `{secret}` for what is sealed in it; its query is shown to admins' tokens only."""
        return connection.server_url if self.context.get("whole_address") else connection.bare_url

    def get_next_step(self, connection: Connection) -> str:
        """What to do now; empty when there is nothing to do. Names the request to send where one ends the trouble."""
        method = METHOD_WANTED.get(connection.credential_reason)
        if method is None or connection.next_step != next_step(connection.credential_reason):
            return connection.next_step
        request = f'Send PATCH /v1/connections/{connection.pk} with {{"authorization": "{method}"}}.'
        then = " Then have an admin press Sign in on the connection's page." if method == Authorization.OAUTH else ""
        return f"{request}{then}"

    @extend_schema_field(StateSerializer)
    def get_credential(self, connection: Connection) -> Any:
        """Are we let in?"""
        return self._state(connection, "credential")

    @extend_schema_field(StateSerializer)
    def get_reachability(self, connection: Connection) -> Any:
        """Does the server answer?"""
        return self._state(connection, "reachability")

    @extend_schema_field(StateSerializer)
    def get_tools(self, connection: Connection) -> Any:
        """Do we know its tools?"""
        return self._state(connection, "tools")

    @staticmethod
    def _state(connection: Connection, which: str) -> Any:
        fields = ("state", "reason", "sentence", "since")
        return StateSerializer({field: getattr(connection, f"{which}_{field}") for field in fields}).data


class ConnectionChangeSerializer(KnownMembers):
    """What an admin's token may set on a connection; a secret that is left out is kept."""

    what, words, shown_only = "A connection", members.WORDS_OF_CONNECTIONS, ConnectionSerializer.Meta.fields

    name = serializers.CharField(max_length=80)
    server_url = serializers.CharField(
        max_length=2048,
        help_text="`{secret}` in it, as a query's value or in the path, is filled in with `address_secret` when it is "
        "sent; one that seems to hold a secret is refused.",
    )
    slug = serializers.CharField(
        required=False, max_length=24,
        help_text="What the names of its tools begin with; on adding only. Left out, it is made from the name.",
    )  # fmt: skip
    keep_url_secret = serializers.BooleanField(
        required=False, write_only=True, help_text="True stores a `server_url` that holds a secret as it is, readable."
    )
    authorization = ChoiceField(
        choices=Authorization.choices, required=False,
        help_text="Left out, it is as before, or the one to which the secret that is sent belongs.",
    )  # fmt: skip
    address_secret = serializers.CharField(
        required=False, write_only=True, help_text="What stands for `{secret}` in `server_url`. Write-only."
    )
    api_key = serializers.CharField(required=False, write_only=True, help_text="Write-only.")
    api_key_header = serializers.CharField(required=False, allow_blank=True, max_length=80)
    headers = serializers.DictField(child=serializers.CharField(), required=False, write_only=True)
    extra_headers = serializers.DictField(child=serializers.CharField(), required=False, write_only=True)
    enabled = serializers.BooleanField(required=False)
    connect_timeout = serializers.IntegerField(required=False, help_text="Seconds.")
    idle_timeout = serializers.IntegerField(required=False, help_text="Seconds without a sign of life.")
    call_timeout = serializers.IntegerField(required=False, help_text="Seconds, the absolute cap of a call.")
    max_concurrency = serializers.IntegerField(required=False, help_text="Over all processes, at most 2,000.")
    max_rate = serializers.IntegerField(required=False, allow_null=True, help_text="Calls per minute; null: no limit.")
    max_answer = serializers.IntegerField(
        required=False, help_text="Bytes of the largest answer that is read, 1,000 to 10,000,000."
    )
    session_calls = ChoiceField(
        choices=SessionCalls.choices, required=False, help_text="How the calls of one session run."
    )
    session_idle_minutes = serializers.IntegerField(
        required=False, help_text="Minutes without a call after which a session is ended, 1 to 1,440."
    )
    send_trace = serializers.BooleanField(required=False, help_text="Whether the server gets the trace context.")
    era_choice = ChoiceField(choices=Era.choices, required=False)
    sharing = ChoiceField(
        choices=Sharing.choices,
        required=False,
        help_text="`personal`: an `api_key` or `headers` sent with it is yours.",
    )
    oauth_grant = ChoiceField(choices=Grant.choices, required=False)
    oauth_client_id = serializers.CharField(required=False, allow_blank=True, max_length=500)
    oauth_client_secret = serializers.CharField(required=False, write_only=True, help_text="Write-only.")
    oauth_token_auth = ChoiceField(
        choices=TokenAuth.choices, required=False, allow_blank=True, help_text="Empty: by what the server supports."
    )
    oauth_signing_key = serializers.CharField(
        required=False, write_only=True, help_text="PEM, write-only; left out, one is made for `private_key_jwt`."
    )
    oauth_scopes = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    oauth_resource = serializers.CharField(required=False, allow_blank=True, max_length=2048)
    oauth_omit_resource = serializers.BooleanField(required=False)
    oauth_authorization_server = serializers.CharField(
        required=False, allow_blank=True, max_length=2048,
        help_text="The issuer that you trust, or the address of its metadata document: people sign in there, whatever "
        "the server's own documents say. Changing it ends the sign-ins.",
    )  # fmt: skip
    oauth_assume_pkce = serializers.BooleanField(
        required=False,
        help_text="True: you know that the authorization server checks PKCE (S256), though it does not say so.",
    )


class QuotaSerializer(serializers.Serializer[Any]):
    """One quota of the caller's organization."""

    name = ChoiceField(choices=["connections", "assignments", "tokens", "open_calls", "stored_megabytes"])
    used = serializers.IntegerField(allow_null=True, help_text="Null when it is not known at this moment.")
    most = serializers.IntegerField(help_text="The platform's staff sets it.")


class QuotasSerializer(serializers.Serializer[Any]):
    """The quotas of the caller's organization, with what is used of them."""

    quotas = QuotaSerializer(many=True)

"""The shapes of the API; OpenAPI is made from them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from connections.models import Authorization, Connection, Era, Grant, Sharing, TokenAuth
from tools.models import Call, Tool
from tools.models.moves import CallState


class ToolSerializer(serializers.ModelSerializer[Tool]):
    """One tool, in the same shape wherever it comes from: definitions are the approved ones."""

    name = serializers.CharField(source="public_name", help_text="At most 64 of A-Z, a-z, 0-9, _ and -.")
    title = serializers.SerializerMethodField()
    description = serializers.SerializerMethodField()
    input_schema = serializers.SerializerMethodField()
    output_schema = serializers.SerializerMethodField()
    annotations = serializers.SerializerMethodField()
    connection = serializers.UUIDField(source="connection_id")

    class Meta:
        model = Tool
        fields = ["name", "title", "description", "input_schema", "output_schema", "annotations", "connection"]

    def get_title(self, tool: Tool) -> str | None:
        """A name for people."""
        definition = tool.approved_definition or {}
        return definition.get("title") or (definition.get("annotations") or {}).get("title")

    def get_description(self, tool: Tool) -> str:
        """What the tool does, in the server's words."""
        return str((tool.approved_definition or {}).get("description") or "")

    def get_input_schema(self, tool: Tool) -> dict[str, Any]:
        """JSON Schema of the arguments."""
        return dict((tool.approved_definition or {}).get("inputSchema") or {})

    def get_output_schema(self, tool: Tool) -> dict[str, Any] | None:
        """JSON Schema of `structured_content`, where the server gives one."""
        return (tool.approved_definition or {}).get("outputSchema")

    def get_annotations(self, tool: Tool) -> dict[str, Any]:
        """The server's hints, such as `readOnlyHint` and `destructiveHint`; hints, not promises."""
        return dict((tool.approved_definition or {}).get("annotations") or {})


class ArgumentsSerializer(serializers.Serializer[Any]):
    """What to call a tool with."""

    arguments = serializers.DictField(
        child=serializers.JSONField(), required=False, help_text="Checked against the tool's `input_schema`."
    )


class CallSerializer(serializers.ModelSerializer[Call]):
    """One call: where it is in its life and, once finished, what came of it."""

    tool = serializers.CharField(source="tool_name")
    state = serializers.ChoiceField(choices=CallState.choices)
    is_error = serializers.BooleanField(help_text="The tool itself reports an error; `content` says which.")
    content = serializers.ListField(
        child=serializers.DictField(), allow_null=True, help_text="MCP content blocks as the server sent them."
    )
    structured_content = serializers.JSONField(help_text="Any JSON value; null when the server sent none.")
    error = serializers.DictField(allow_null=True, help_text="`code` and `detail` when the server gave no result.")

    class Meta:
        model = Call
        fields = [
            "id", "tool", "state", "created_at", "finished_at", "is_error", "content", "structured_content", "error",
        ]  # fmt: skip

    def to_representation(self, call: Call) -> dict[str, Any]:
        """Return the call with its opened result."""
        error = {"code": call.error_code, "detail": call.error_sentence} if call.error_code else None
        result = call.result()
        return call_body(call.id, call.tool_name, call.state, call.created_at, call.finished_at, result, error)


class CallSummarySerializer(serializers.ModelSerializer[Call]):
    """One call of a list: where it is in its life; its own address shows the result."""

    tool = serializers.CharField(source="tool_name")
    state = serializers.ChoiceField(choices=CallState.choices)

    class Meta:
        model = Call
        fields = ["id", "tool", "state", "created_at", "finished_at", "error_code"]


def call_body(
    call_id: Any, tool: str, state: str, created_at: Any, finished_at: Any, result: Any, error: Any
) -> dict[str, Any]:
    """Return a call as the API shows it; the one shape for the call path and for later looks."""
    result = result or {}
    return {
        "id": str(call_id),
        "tool": tool,
        "state": str(state),
        "created_at": created_at.isoformat(timespec="milliseconds"),
        "finished_at": finished_at.isoformat(timespec="milliseconds") if finished_at else None,
        "is_error": bool(result.get("is_error", False)),
        "content": result.get("content"),
        "structured_content": result.get("structured_content"),
        "error": None if result else error,
    }


class StateSerializer(serializers.Serializer[Any]):
    """One of the three states of a connection."""

    state = serializers.CharField()
    reason = serializers.CharField(help_text="A stable code; empty when all is well.")
    sentence = serializers.CharField()
    since = serializers.DateTimeField()


class ConnectionSerializer(serializers.ModelSerializer[Connection]):
    """A connection with its three states; never a secret."""

    status = serializers.CharField(source="headline", help_text="One word derived from the three states.")
    next_step = serializers.CharField(help_text="What a person should do now; empty when there is nothing to do.")
    credential = serializers.SerializerMethodField()
    reachability = serializers.SerializerMethodField()
    tools = serializers.SerializerMethodField()

    class Meta:
        model = Connection
        fields = [
            "id", "name", "slug", "server_url", "authorization", "sharing", "enabled", "era", "protocol_version",
            "status", "next_step", "credential", "reachability", "tools", "probed_at", "created_at",
        ]  # fmt: skip

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


class ConnectionChangeSerializer(serializers.Serializer[Any]):
    """What an admin's token may set on a connection; a secret that is left out is kept."""

    name = serializers.CharField(max_length=80)
    server_url = serializers.CharField(max_length=2048)
    authorization = serializers.ChoiceField(choices=Authorization.choices, required=False)
    api_key = serializers.CharField(required=False, write_only=True, help_text="Write-only.")
    api_key_header = serializers.CharField(required=False, allow_blank=True, max_length=80)
    headers = serializers.DictField(child=serializers.CharField(), required=False, write_only=True)
    extra_headers = serializers.DictField(child=serializers.CharField(), required=False, write_only=True)
    enabled = serializers.BooleanField(required=False)
    connect_timeout = serializers.IntegerField(required=False, help_text="Seconds.")
    idle_timeout = serializers.IntegerField(required=False, help_text="Seconds without a sign of life.")
    call_timeout = serializers.IntegerField(required=False, help_text="Seconds, the absolute cap of a call.")
    max_concurrency = serializers.IntegerField(required=False)
    era_choice = serializers.ChoiceField(choices=Era.choices, required=False)
    sharing = serializers.ChoiceField(choices=Sharing.choices, required=False)
    oauth_grant = serializers.ChoiceField(choices=Grant.choices, required=False)
    oauth_client_id = serializers.CharField(required=False, allow_blank=True, max_length=500)
    oauth_client_secret = serializers.CharField(required=False, write_only=True, help_text="Write-only.")
    oauth_token_auth = serializers.ChoiceField(
        choices=TokenAuth.choices, required=False, allow_blank=True, help_text="Empty: by what the server supports."
    )
    oauth_signing_key = serializers.CharField(
        required=False, write_only=True, help_text="PEM, write-only; left out, one is made for `private_key_jwt`."
    )
    oauth_scopes = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    oauth_resource = serializers.CharField(required=False, allow_blank=True, max_length=2048)
    oauth_omit_resource = serializers.BooleanField(required=False)


class ProblemSerializer(serializers.Serializer[Any]):
    """An error (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Stable; programs act on it.")
    detail = serializers.CharField(help_text="For people.")
    request_id = serializers.CharField()
    errors = serializers.ListField(child=serializers.DictField(), required=False)  # type: ignore[assignment]

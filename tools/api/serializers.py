"""The serializers of the API, from which the OpenAPI document is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import orjson
from rest_framework import serializers

from tools.api import members, problems
from tools.calls.outcomes import Report
from tools.errors import CallError
from tools.models import Call, McpSession, Policy, Tool
from tools.models.call_states import CallState
from tools.payloads.raw_json import RawJson


class KnownMembers(serializers.Serializer[Any]):
    """The base of what may be set on a row: a member that cannot be set is refused, and the near one named."""

    what: ClassVar[str]  # has these members
    words: ClassVar[Mapping[str, str]]  # of other products, each with the member that it means here
    shown_only: ClassVar[Collection[str]]  # members that cannot be set

    def to_internal_value(self, data: Any) -> Any:
        """Return what was sent; raises Invalid for members that cannot be set."""
        if isinstance(data, Mapping):
            strange = members.strangers(data, self.fields.keys(), self.shown_only, what=self.what, words=self.words)
            if faults := list(strange):
                raise problems.Invalid(faults)
        return super().to_internal_value(data)


class ChoiceField(serializers.ChoiceField):
    """One of a few words; another value is refused with all of them, and not said again: it may be a secret."""

    def __init__(self, choices: Any, **kwargs: Any) -> None:
        """Take the choices as Django has them."""
        super().__init__(choices, **kwargs)
        self.error_messages["invalid_choice"] = f"This is none of the choices: {', '.join(map(str, self.choices))}."


class ToolSerializer(serializers.ModelSerializer[Tool]):
    """One tool, in the same shape wherever it comes from: definitions are the approved ones."""

    name = serializers.CharField(source="public_name", help_text="At most 64 of A-Z, a-z, 0-9, _ and -.")
    title = serializers.SerializerMethodField()
    description = serializers.SerializerMethodField()
    input_schema = serializers.SerializerMethodField()
    output_schema = serializers.SerializerMethodField()
    annotations = serializers.SerializerMethodField()
    requires_approval = serializers.SerializerMethodField()
    connection = serializers.UUIDField(source="connection_id")

    class Meta:
        model = Tool
        fields = [
            "name", "title", "description", "input_schema", "output_schema", "annotations", "requires_approval",
            "connection",
        ]  # fmt: skip

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

    def get_requires_approval(self, tool: Tool) -> bool:
        """Each call waits until an organization admin has approved it."""
        return tool.policy == Policy.ASK


class ArgumentsSerializer(serializers.Serializer[Any]):
    """What to call a tool with."""

    arguments = serializers.DictField(
        child=serializers.JSONField(), required=False, help_text="Checked against the tool's `input_schema`."
    )


class ProgressSerializer(serializers.Serializer[Any]):
    """One step of a running call."""

    progress = serializers.FloatField(allow_null=True)
    total = serializers.FloatField(allow_null=True)
    message = serializers.CharField(allow_null=True)
    log = serializers.ListField(
        child=serializers.DictField(),
        required=False,
        help_text="Lines of the server's log since the step before: `level`, `logger` and `text`, untrusted.",
    )


class QuestionSerializer(serializers.Serializer[Any]):
    """One question of a server to a person (MCP elicitation)."""

    mode = ChoiceField(choices=["form", "url"])
    message = serializers.CharField()
    schema = serializers.DictField(allow_null=True, help_text="JSON Schema of the answer's `content`; flat.")
    url = serializers.CharField(allow_null=True, help_text="Where a person goes on; look at the host before.")


class InputRequiredSerializer(serializers.Serializer[Any]):
    """What the server asks, by key; all of it is answered at once at `/v1/calls/{id}/input`."""

    id = serializers.CharField(help_text="Tells this question from the next one of the call.")
    requests = serializers.DictField(child=QuestionSerializer())


class ResponseSerializer(serializers.Serializer[Any]):
    """The answer to one question."""

    action = ChoiceField(choices=["accept", "decline", "cancel"])
    content = serializers.DictField(required=False, help_text="Only with `accept`, as the question's schema has it.")


class InputSerializer(serializers.Serializer[Any]):
    """The answers to what a call asks."""

    responses = serializers.DictField(child=ResponseSerializer(), help_text="One for each key of `requests`.")
    id = serializers.CharField(
        required=False, help_text="The `id` of the question that is answered; when the call asks another by then: 409."
    )


class SessionOfCallSerializer(serializers.Serializer[Any]):
    """What there is to know about the session of a call at a server that remembers."""

    name = serializers.CharField(required=False, help_text="As the program gave it (`Duvo-Session`).")
    restarted = serializers.BooleanField(
        help_text="The call ran in a new session: what the server remembered before is gone."
    )


class SessionSerializer(serializers.ModelSerializer[McpSession]):
    """One live session of this assignment at a server that remembers."""

    connection = serializers.CharField(source="connection.slug", help_text="The prefix of its tools' names.")
    name = serializers.CharField(help_text="Empty: the assignment's own session.")
    ends_at = serializers.DateTimeField(source="idle_until", help_text="When it ends unless it is used again.")

    class Meta:
        model = McpSession
        fields = ["connection", "name", "opened_at", "used_at", "ends_at", "calls"]


class SignInSerializer(serializers.Serializer[Any]):
    """Where a person goes on."""

    url = serializers.URLField(help_text="A page of this service. It asks who opens it to sign in here first.")
    person = serializers.CharField(allow_null=True, help_text="Who is to open it; null: any admin of the organization.")
    does = ChoiceField(choices=["sign_in", "enter"], help_text="Sign in there, or enter a key or headers.")


class CallSerializer(serializers.ModelSerializer[Call]):
    """One call: where it is in its life and, once finished, what came of it."""

    tool = serializers.CharField(source="tool_name")
    state = ChoiceField(choices=CallState.choices)
    is_error = serializers.BooleanField(help_text="The tool itself reports an error; `content` says which.")
    content = serializers.ListField(
        child=serializers.DictField(),
        allow_null=True,
        help_text="MCP content blocks as the server sent them; what is too large is a `resource_link`.",
    )
    structured_content = serializers.JSONField(help_text="Any JSON value; null when the server sent none.")
    structured_content_link = serializers.DictField(
        allow_null=True, help_text="Where the structured content is when it was too large: a `resource_link`."
    )
    _meta = serializers.DictField(
        required=False,
        help_text="The result's `_meta` as the server sent it; members that begin with `duvo/` are ours: `duvo/notes` "
        "says what was changed in reading, `duvo/link` leads to one that was too large.",
    )
    error = serializers.DictField(
        allow_null=True,
        help_text="`code` and `detail` when the server gave no result; `server_message`: its own words, untrusted.",
    )
    progress = ProgressSerializer(allow_null=True, help_text="The last step that the server told of a running call.")
    input_required = InputRequiredSerializer(allow_null=True, help_text="What the server asks in the middle.")
    login_required = SignInSerializer(
        allow_null=True, help_text="Where the owner of the assignment is to connect before the queued call is made."
    )
    waits_until = serializers.DateTimeField(
        allow_null=True, help_text="Until when a person may approve the call, anybody answer it, or its owner connect."
    )
    session = SessionOfCallSerializer(allow_null=True, help_text="Null when there is nothing to know.")
    account = serializers.CharField(
        allow_null=True,
        help_text="With which account at the provider it was made, as the sign-in names it; null where that is not "
        "known, and before it is made.",
    )

    class Meta:
        model = Call
        fields = [
            "id", "tool", "state", "created_at", "finished_at", "is_error", "content", "structured_content",
            "structured_content_link", "_meta", "error", "progress", "input_required", "login_required", "waits_until",
            "session", "account",
        ]  # fmt: skip


class CallSummarySerializer(serializers.ModelSerializer[Call]):
    """One call of a list: where it is in its life; its own address shows the result."""

    tool = serializers.CharField(source="tool_name")
    state = ChoiceField(choices=CallState.choices)
    account = serializers.SerializerMethodField()

    class Meta:
        model = Call
        fields = ["id", "tool", "state", "created_at", "finished_at", "error_code", "account"]

    def get_account(self, call: Call) -> str | None:
        """With which account at the provider it was made; null where that is not known, and before it is made."""
        return call.account or None


def call_json(report: Report) -> bytes:
    """Return a call as the API shows it, as JSON; the same for the response to a call and for later requests."""
    body, result = _around(report), report.result
    if isinstance(result, RawJson):  # an object with all the members of a result
        return orjson.dumps(body)[:-1] + b"," + result.json[1:]
    result = result or {}
    return orjson.dumps(
        body
        | {
            "is_error": bool(result.get("is_error", False)),
            "content": result.get("content"),
            "structured_content": result.get("structured_content"),
            "structured_content_link": result.get("structured_content_link"),
        }
        | ({"_meta": result["_meta"]} if result.get("_meta") is not None else {})
    )


def _around(report: Report) -> dict[str, Any]:
    """Return what the API shows of a call except its result."""
    error, question = report.error, report.question
    asked = ("mode", "message", "schema", "url")
    return {
        "id": str(report.id),
        "tool": report.tool,
        "state": str(report.state),
        "created_at": report.created_at.isoformat(timespec="milliseconds"),
        "finished_at": report.finished_at.isoformat(timespec="milliseconds") if report.finished_at else None,
        "error": _error(error) if error and not report.result else None,
        "progress": report.progress,
        "input_required": question and {
            "id": question.get("id", ""),
            "requests": {key: {name: one[name] for name in asked} for key, one in question["requests"].items()}
        },
        "login_required": report.login,
        "waits_until": report.waits_until.isoformat(timespec="milliseconds") if report.waits_until else None,
        "session": report.session,
        "account": report.account or None,
    }  # fmt: skip


def _error(error: CallError) -> dict[str, str]:
    words = {"server_message": error.server_message} if error.server_message else {}
    return {"code": error.code, "detail": error.sentence, **words}


class ProblemSerializer(serializers.Serializer[Any]):
    """An error (RFC 9457)."""

    type = serializers.URLField(help_text="Where the help page says what the code means and what to do.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Stable; programs act on it.")
    detail = serializers.CharField(help_text="For people.")
    request_id = serializers.CharField()
    errors = serializers.ListField(child=serializers.DictField(), required=False)  # type: ignore[assignment]
    near = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Names of tools that may be meant instead."
    )
    token_id = serializers.UUIDField(required=False, help_text="Of the token that was made before with the same key.")
    session = SessionOfCallSerializer(required=False, help_text="Of a call that failed, if there is anything to know.")
    server_message = serializers.CharField(
        required=False, help_text="What the MCP server itself said: untrusted, at most 500 characters, without secrets."
    )

"""The serializers of assignments and of their tokens."""

from __future__ import annotations

from rest_framework import serializers

from tools.api.serializers import ChoiceField, KnownMembers
from tools.calls import acting
from tools.models import AccessToken, Assignment

_LONGEST_LIST = 10_000  # chosen tools


class AssignmentSummarySerializer(serializers.ModelSerializer[Assignment]):
    """An assignment as lists show it."""

    owner = serializers.SerializerMethodField()
    max_rate = serializers.IntegerField(allow_null=True, help_text="Calls per minute; null: no limit.")
    scope = ChoiceField(
        choices=Assignment.Scope.choices, help_text="Every approved tool of the organization, or the `tools` chosen."
    )

    class Meta:
        model = Assignment
        fields = ["id", "name", "owner", "enabled", "scope", "max_rate", "created_at"]

    def get_owner(self, assignment: Assignment) -> str | None:
        """The person for whom it acts; null: the owner has left the organization."""
        members: set[int] | None = self.context.get("members")
        if members is None or assignment.owner is None:  # one assignment, or nobody to ask for
            owner = acting.owner_of(assignment)
            return owner.user.get_username() if owner else None
        return assignment.owner.get_username() if assignment.owner.pk in members else None


class AssignmentSerializer(AssignmentSummarySerializer):
    """An assignment: a program that may call tools."""

    tools = serializers.SerializerMethodField()
    reaches_personal = serializers.SerializerMethodField()

    class Meta(AssignmentSummarySerializer.Meta):
        fields = [*AssignmentSummarySerializer.Meta.fields, "instructions", "tools", "reaches_personal"]

    def get_tools(self, assignment: Assignment) -> list[str]:
        """The names of the chosen tools, available now or not; they count while `scope` is `chosen`."""
        return list(assignment.tools.values_list("public_name", flat=True))

    def get_reaches_personal(self, assignment: Assignment) -> bool:
        """It has a tool of a personal connection: only its owner, and whom the owner lets, edit it and issue tokens."""
        return acting.reaches(assignment)


class AssignmentChangeSerializer(KnownMembers):
    """What may be set on an assignment; what is left out of a change stays."""

    what, shown_only = "An assignment", AssignmentSerializer.Meta.fields
    words = {
        "title": "name", "description": "instructions", "prompt": "instructions", "user": "owner", "active": "enabled",
        "calls_per_minute": "max_rate", "rate_limit": "max_rate", "tool_names": "tools", "may_use": "scope",
    }  # fmt: skip

    name = serializers.CharField(max_length=80)
    instructions = serializers.CharField(
        required=False, allow_blank=True, max_length=20_000, help_text="What the agent is to do. Never a credential."
    )
    owner = serializers.CharField(
        required=False, allow_null=True, max_length=254,
        help_text="The name that the person signs in with; left out, whoever adds it. Only admins choose.",
    )  # fmt: skip
    enabled = serializers.BooleanField(required=False, help_text="The tokens of a disabled assignment open nothing.")
    max_rate = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=1_000_000, help_text="Calls per minute; null: no limit."
    )
    scope = ChoiceField(
        choices=Assignment.Scope.choices, required=False,
        help_text="Left out, it is as before, or `chosen` where other `tools` are sent.",
    )  # fmt: skip
    tools = serializers.ListField(
        child=serializers.CharField(max_length=64), required=False, max_length=_LONGEST_LIST,
        help_text="The names of all tools that are chosen, as assignments see them; others are taken away.",
    )  # fmt: skip


class AccessTokenSerializer(serializers.ModelSerializer[AccessToken]):
    """A token without what is secret of it."""

    prefix = serializers.CharField(help_text="How it is shown in lists.")
    label = serializers.CharField(help_text="What it is for.")  # type: ignore[assignment]  # taken for the field's own
    created_by = serializers.SerializerMethodField()
    live = serializers.SerializerMethodField()
    acts_as_owner = serializers.SerializerMethodField()

    class Meta:
        model = AccessToken
        fields = [
            "id", "prefix", "label", "created_by", "created_at", "expires_at", "last_used_at", "revoked_at", "live",
            "acts_as_owner",
        ]  # fmt: skip

    def get_created_by(self, token: AccessToken) -> str | None:
        """Who issued it; null: this person's account is gone."""
        return token.created_by.get_username() if token.created_by else None

    def get_live(self, token: AccessToken) -> bool:
        """It is valid at this moment: neither revoked nor expired, and its assignment is enabled."""
        return token.pk in self.context["live"]

    def get_acts_as_owner(self, token: AccessToken) -> bool:
        """Its calls are made with the owner's own sign-in, key or headers at personal connections."""
        return token.pk in self.context["acting"]


class NewAccessTokenSerializer(AccessTokenSerializer):
    """A token that was just made, with the token itself: this is the only time that it is shown."""

    token = serializers.SerializerMethodField()

    class Meta(AccessTokenSerializer.Meta):
        fields = [*AccessTokenSerializer.Meta.fields, "token"]

    def get_token(self, token: AccessToken) -> str:
        """Send it as `Authorization: Bearer`."""
        return str(self.context["token"])


class AccessTokenRequestSerializer(KnownMembers):
    """What is said of a new token."""

    what, shown_only = "A token", AccessTokenSerializer.Meta.fields
    words = {
        "name": "label", "description": "label", "title": "label", "expires": "expires_at", "expiry": "expires_at",
        "expires_on": "expires_at", "expiration": "expires_at", "valid_until": "expires_at",
    }  # fmt: skip

    label = serializers.CharField(  # type: ignore[assignment]  # taken for the field's own
        required=False, allow_blank=True, max_length=80, help_text="What it is for."
    )
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="Left out or null: the longest time that the organization allows."
    )

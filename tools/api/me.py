"""Who asks: what a token is, for whom it acts, and how much it may; no secret."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models import Membership
from tools.api.queries import KnownQuery
from tools.api.views import assignment_of, principal_of, tenant_of
from tools.calls import acting
from tools.models import AccessToken, Assignment


class OrganizationSerializer(serializers.Serializer[Any]):
    """An organization."""

    id = serializers.UUIDField()
    name = serializers.CharField()


class OfTokenSerializer(serializers.Serializer[Any]):
    """The token of the request, without what is secret of it."""

    prefix = serializers.CharField(help_text="How it is shown in lists.")
    label = serializers.CharField()  # type: ignore[assignment]  # the stubs take it for the field's own label
    expires_at = serializers.DateTimeField(allow_null=True)


class OfAssignmentSerializer(serializers.Serializer[Any]):
    """An assignment, with its owner."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    owner = serializers.CharField(allow_null=True, help_text="Null: the owner has left the organization.")
    acts_as_owner = serializers.BooleanField(
        help_text="This token's calls are made with the owner's own sign-in, key or headers at personal connections."
    )


class OfPersonSerializer(serializers.Serializer[Any]):
    """A person with their role."""

    name = serializers.CharField()
    role = serializers.CharField()


class LimitsSerializer(serializers.Serializer[Any]):
    """What bounds the caller's calls; null where nothing does."""

    calls_per_minute = serializers.IntegerField(allow_null=True, help_text="Of this assignment.")
    concurrent_calls = serializers.IntegerField(help_text="Of the organization.")
    open_calls = serializers.IntegerField(help_text="Of the organization.")
    hours_to_decide = serializers.IntegerField(help_text="How long a call waits for a person.")
    days_kept = serializers.IntegerField(help_text="How long a call that has ended can be looked at.")


class MeSerializer(serializers.Serializer[Any]):
    """Who asks: an assignment or a person, of one organization."""

    organization = OrganizationSerializer()
    token = OfTokenSerializer()
    assignment = OfAssignmentSerializer(allow_null=True)
    person = OfPersonSerializer(allow_null=True)
    limits = LimitsSerializer()


class Me(KnownQuery):
    """The caller."""

    @extend_schema(operation_id="me_retrieve", summary="Who asks", responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Say whose token this is, for which organization and owner, and what bounds its calls."""
        principal, tenant = principal_of(request), tenant_of(request)
        token = AccessToken.objects.of(tenant.pk).get(pk=principal.token_id)
        assignment = assignment_of(request) if principal.assignment_id is not None else None
        membership = tenant.memberships.select_related("user").filter(user=principal.user_id).first()
        said = {
            "organization": {"id": tenant.pk, "name": tenant.name},
            "token": token,
            "assignment": _assignment(assignment, token) if assignment else None,
            "person": _person(membership) if membership and not assignment else None,
            "limits": {
                "calls_per_minute": assignment.max_rate if assignment else None,
                "concurrent_calls": tenant.max_concurrency,
                "open_calls": tenant.max_open_calls,
                "hours_to_decide": tenant.decision_hours,
                "days_kept": tenant.retention_days,
            },
        }
        return Response(MeSerializer(said).data)


def _assignment(assignment: Assignment, token: AccessToken) -> dict[str, Any]:
    owner = acting.owner_of(assignment)
    return {
        "id": assignment.pk,
        "name": assignment.name,
        "owner": owner.user.get_username() if owner else None,
        "acts_as_owner": AccessToken.objects.acting().filter(pk=token.pk).exists(),
    }


def _person(membership: Membership) -> dict[str, Any]:
    return {"name": membership.user.get_username(), "role": membership.role}

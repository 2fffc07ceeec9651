"""In whose name: an assignment acts through its owner's personal sign-ins, and nobody else may make it do so.

Who may edit such an assignment, or holds a token of it, acts as its owner at the provider. So only the owner may do
both, and admins to whom the owner has consented; the owner is notified each time. Others may only take rights away:
revoke, disable, delete. Which tokens act is decided in one place, `AccessTokenQuerySet.acting`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from uuid import UUID

from celery import current_app
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from kombu.exceptions import OperationalError

from connections import audit, shares
from connections.models import ACTING, PERSONAL, Connection, Membership, Role, Tenant, User
from oauth import credential_state
from tools.errors import ActingRefused, ConnectionNotReady
from tools.models import AccessToken, Assignment, Call, Consent, OwnerNotice, Tool

MAILS = shares.Work(task="tools.mail_owner", dispatcher="tools.dispatch_owner_mail")


def uses_personal_sign_ins(connection: Connection) -> bool:
    """Whether calls on this connection act through members' sign-ins, keys or headers, or did until a moment ago."""
    members_own = connection.sign_ins, connection.credentials
    return connection.is_personal or any(rows.filter(owner__isnull=False).exists() for rows in members_own)


def acts_for_its_owner(call: Call) -> bool:
    """Whether a call acts through a sign-in, key or headers of its assignment's owner."""
    return call.assignment is not None and call.connection is not None and uses_personal_sign_ins(call.connection)


def check_access(token_id: UUID, call: Call) -> None:
    """Raise unless the holder of this token may see, answer and end a call that another token made.

    A call through personal sign-ins is the owner's: raises as `check` does.
    """
    if call.token_id == token_id or call.connection is None or call.assignment is None:
        return
    if uses_personal_sign_ins(call.connection):
        check(token_id, call.assignment)


def reaches(assignment: Assignment) -> bool:
    """Whether the assignment has a tool of a personal connection, usable at this moment or not."""
    return would_reach(assignment.tenant, assignment.scope, assignment.tools.only("pk"))


def would_reach(tenant: Tenant, scope: str, chosen: Iterable[Tool]) -> bool:
    """Whether an assignment with this scope and these chosen tools would reach personal sign-ins."""
    # One that was personal a moment ago may be so again in the next: its members' sign-ins are still stored.
    stored = Q(sign_ins__owner__isnull=False) | Q(credentials__owner__isnull=False)
    personal = tenant.connections.filter(PERSONAL | stored)
    if scope != Assignment.Scope.ALL:
        personal = personal.filter(tools__in=[tool.pk for tool in chosen])
    return personal.exists()


def owner_of(assignment: Assignment) -> Membership | None:
    """Return the owner's membership, None when the owner has left the organization."""
    mine = Membership.objects.filter(user=assignment.owner_id, tenant=assignment.tenant_id)
    return mine.select_related("user").first()


def may_act_as_owner(person: User, assignment: Assignment) -> bool:
    """Whether this person is the owner, or has the owner's consent."""
    owner = owner_of(assignment)
    if owner is None or owner.user_id == person.pk:
        return owner is not None
    return Consent.objects.filter(assignment=assignment, owner=owner, person__user=person).exists()


def refusal_for(person: User, assignment: Assignment) -> str:
    """Return why this person may not act in the owner's name, as a sentence, or "" if they may."""
    owner = owner_of(assignment)
    if owner is None or may_act_as_owner(person, assignment):
        return ""
    name = owner.user.get_username()
    return (
        f"It acts through the personal sign-ins of {name}, so only {name} may do this. "
        f"{name} can consent on the page of the assignment. You may disable or delete it, and revoke its tokens."
    )


def check(token_id: UUID | None, assignment: Assignment) -> None:
    """Raise unless calls of this token act through the personal sign-ins of the assignment's owner.

    Raises ConnectionNotReady when the owner may no longer act, and ActingRefused when the token is not one that does.
    """
    if token_id is not None and AccessToken.objects.acting().filter(pk=token_id).exists():
        return
    owner = Membership.objects.filter(user=assignment.owner_id, tenant=assignment.tenant_id, user__is_active=True)
    if not owner.filter(role__in=ACTING).exists():
        raise ConnectionNotReady(
            "The owner of this assignment has left the organization or may no longer act in it, so nothing is done "
            "through their personal sign-in.",
            code="credential_not_ready",
        )
    raise ActingRefused(
        "This token was not issued by the owner of its assignment, or without the owner's consent, so it does not act "
        "through the owner's personal sign-in. The owner can issue another."
    )


def consent(assignment: Assignment, owner: Membership, person: Membership) -> Consent:
    """Let this person act in the owner's name in this assignment from now on."""
    return Consent.objects.get_or_create(assignment=assignment, owner=owner, person=person)[0]


def may_own(tenant: Tenant) -> QuerySet[Membership]:
    """Return who may own assignments of an organization: its admins, and its members where it lets them."""
    roles = ACTING if tenant.members_own else (Role.ADMIN,)
    mine = Membership.objects.filter(tenant=tenant, role__in=roles, user__is_active=True)
    return mine.select_related("user").order_by("user__username")


def hand_over(assignment: Assignment, to: Membership, by: User) -> None:
    """Make another person the owner. Nothing that was issued or allowed before acts in anybody's name any more.

    Else whoever hands an assignment back and forth would act as its owner with other instructions than the owner knew.
    """
    before = owner_of(assignment)
    if before is not None and before.pk == to.pk:
        return
    with transaction.atomic():
        Assignment.objects.select_for_update(no_key=True).filter(pk=assignment.pk).update(owner=to.user_id)
        AccessToken.objects.filter(assignment=assignment).update(acts_as=None)
        Consent.objects.filter(assignment=assignment).delete()
        assignment.owner = to.user
        was = before.user.get_username() if before else ""
        audit.record(
            by, "assignment.owner_changed", assignment, tenant=assignment.tenant,
            changes={"owner": [was, to.user.get_username()]}, fields=["owner"],
        )  # fmt: skip
        name = by.get_username()
        told = {to: f"{name} made you the owner of the assignment “{assignment.name}”."}
        told |= {before: f"{name} gave the assignment “{assignment.name}” another owner."} if before else {}
        for owner, sentence in told.items():
            if owner.user_id != by.pk:
                OwnerNotice.objects.create(assignment=assignment, owner=owner.user, sentence=sentence[:300])


def settle(tenant: Tenant) -> None:
    """Bring the states of an organization's personal connections in line with who owns which assignment."""
    for connection in tenant.connections.filter(PERSONAL).select_related("tenant"):
        credential_state.settle(connection)


def notify_owner(assignment: Assignment, by: User, what: str) -> None:
    """Tell the owner, on the start page and by mail, what somebody else did (a verb and what it was done to)."""
    owner = owner_of(assignment)
    if owner is None or owner.user_id == by.pk:
        return
    sentence = f"{by.get_username()} {what}. The assignment “{assignment.name}” acts through your personal sign-ins."
    notice = OwnerNotice.objects.create(
        assignment=assignment, owner=owner.user, sentence=sentence[:300], mail_at=timezone.now()
    )
    transaction.on_commit(partial(_send, assignment.tenant_id, notice.pk))


def _send(tenant_id: UUID, notice_id: UUID) -> None:
    # The row stays due: beat's dispatcher sends it once its organization has a free slot, and the broker is back.
    if not MAILS.admits(tenant_id, notice_id):
        return
    with suppress(OperationalError, OSError):
        arguments = {"notice_id": str(notice_id)}
        current_app.send_task(MAILS.task, kwargs=arguments, expires=shares.WAITS, retry=False)

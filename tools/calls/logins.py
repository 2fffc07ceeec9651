"""Login requests: calls that wait until the owner of their assignment has connected, and what becomes of them then.

A caller that prefers it to a refusal (`Prefer: wait-for-login`) has its call left in the queue, where no worker takes
it. The calls of one owner at one connection are one request: people are told once, and when the owner has signed in, or
entered a key or headers, all of them go on, each once, the oldest first.

connected   lets them go on; called for each sign-in and each key that is stored
sweep       does the same for what nobody announced, and for calls that no login helps any more

What else ends them is told in `ending`; that the time is over, in `life`.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from connections.models import PERSONAL, Connection, Credential
from oauth.models import SignIn
from tools.calls import offers, pubsub
from tools.models import Assignment, Call
from tools.models.calls import CallQuerySet

_AT_ONCE = 500


def connected_later(instance: SignIn | Credential) -> None:
    """Let the calls of a person who connects go on as soon as that is committed."""
    if instance.owner_id is not None:
        transaction.on_commit(partial(connected, instance.connection_id, instance.owner_id), robust=True)


def connected(connection_id: UUID, owner_id: int) -> int:
    """Let the calls go on that wait for this person at this connection, unless they still have to connect."""
    theirs = Assignment.objects.filter(owner=owner_id)
    calls = Call.objects.awaiting_login().filter(connection=connection_id, assignment__in=theirs)
    if not calls.exists():
        return 0
    connection = Connection.objects.select_related("tenant").filter(pk=connection_id).first()
    if connection is None or offers.wants_login(connection, owner_id):
        return 0
    return _go_on(calls)


def sweep() -> None:
    """Let go on what nobody has announced, and what waits in vain: it then ends with the reason."""
    waiting = Call.objects.awaiting_login().of_active_tenants()
    not_personal = ~Q(connection__in=Connection.objects.filter(PERSONAL))
    replaced = ~Q(server_url=F("connection__server_url")) | ~Q(tool_digest=F("tool__approved_digest"))
    in_vain = list(waiting.filter(not_personal | replaced).order_by().values_list("pk", flat=True)[:_AT_ONCE])
    _go_on(Call.objects.filter(pk__in=in_vain))
    same = {"connection": OuterRef("connection"), "owner": OuterRef("assignment__owner")}
    signed_in = Exists(SignIn.objects.filter(**same, ended_at=None))
    entered = Exists(Credential.objects.filter(**same))
    pairs = waiting.filter(signed_in | entered).order_by().values_list("connection", "assignment__owner").distinct()
    for connection_id, owner_id in pairs[:_AT_ONCE]:
        connected(connection_id, owner_id)


def _go_on(calls: CallQuerySet) -> int:
    with transaction.atomic():
        moved = calls.unlocked().go_on_after_login()
    if moved:
        pubsub.notify_workers()
    return moved

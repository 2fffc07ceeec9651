"""The audit trail at an organization's webhook: in order, each event once, and nothing of anybody else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core import mail
from django.db import transaction
from django.test import Client
from django.utils import timezone

from connections import audit
from connections.models import AuditEvent, AuditFeed, Bulletin, Connection, Kind, Tenant, User
from connections.notices import audit_feed, delivering
from tests.conftest import House
from tests.live import Api
from tests.servers.fixtures import StartReceiver
from tests.servers.receiver import Receiver
from tests.telling import send
from tools import tasks

SignedIn = Callable[[User | None], Client]


def form(house: House, **more: Any) -> dict[str, Any]:
    tenant = Tenant.objects.get(pk=house.tenant.pk)
    return {
        "name": tenant.name, "webhook_url": tenant.webhook_url, "retention_days": 30, "decision_hours": 24, **more,
    }  # fmt: skip


def page(house: House) -> str:
    return f"/admin/connections/tenant/{house.tenant.pk}/change/"


def subscribed(house: House, receiver: Receiver) -> str:
    """Have the organization's trail sent to the receiver from now on, and return the webhook's secret."""
    house.tenant.webhook_url = receiver.url
    house.tenant.save()
    secret = house.tenant.make_webhook_secret()
    audit_feed.start(house.tenant)
    AuditFeed.objects.update(since=timezone.now() - timedelta(minutes=5))
    return secret


def happens(house: House, *numbers: int, connection: Connection | None = None, ago: float = 60) -> list[str]:
    """Record events, the first so many seconds ago and each a moment after the one before; return their ids."""
    connection = connection or house.tenant.connections.first() or house.connection()
    ids = []
    for number in numbers:
        at = timezone.now() - timedelta(seconds=ago - number / 1_000)
        event = AuditEvent.objects.create(
            tenant=house.tenant, at=at, actor="admin@acme.example", action="connection.changed",
            object_type="connection", object_id=str(connection.pk), object_label=str(connection),
            data={"number": number},
        )  # fmt: skip
        ids.append(str(event.pk))
    return ids


def push() -> None:
    """Do what beat and the workers do, once."""
    audit_feed.gather(timezone.now())
    send()


def told(receiver: Receiver) -> list[int]:
    """The numbers of the events that the receiver has got, message by message."""
    return [event["data"].get("number") for message in receiver.messages for event in message["data"]["events"]]


def test_an_admin_has_the_trail_sent_and_it_arrives_in_order_signed_and_once(
    api: Api, acme: House, rival: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    receiver, client = webhook_receiver(), signed_in(acme.admin)
    acme.tenant.webhook_url = receiver.url
    acme.tenant.save()
    secret = acme.tenant.make_webhook_secret()
    happens(acme, 0, ago=30)  # before anybody wanted it
    assert client.post(page(acme), form(acme, audit_to_webhook="on")).status_code == 302
    changed = AuditEvent.objects.get(action="tenant.changed")
    assert changed.data["changes"] == {"audit_to_webhook": [False, True]}
    push()
    assert receiver.requests == [], "what has just happened may still get a neighbour that is older"

    chosen = timezone.now() - timedelta(seconds=25)
    AuditFeed.objects.update(since=chosen, told_until=chosen)
    ids = happens(acme, 1, 2, 3, ago=20)
    happens(rival, 4, ago=20)
    push()
    assert receiver.verified(secret) == [True]
    [message] = receiver.messages
    assert (message["type"], message["data"]["organization"], message["data"]["count"]) == ("audit.events", "acme", 3)
    assert [event["id"] for event in message["data"]["events"]] == ids
    assert told(receiver) == [1, 2, 3]
    listed = api.as_(acme.member_token(acme.auditor)).get("/v1/audit-events?object_type=connection").json()["results"]
    first = message["data"]["events"][0]
    assert {name: first[name] for name in ("id", "actor", "action", "object_id", "outcome", "data")} == {
        name: listed[1][name] for name in ("id", "actor", "action", "object_id", "outcome", "data")
    }
    push()
    assert len(receiver.requests) == 1
    assert mail.outbox == []


def test_many_come_in_messages_of_a_hundred_one_after_the_other(acme: House, webhook_receiver: StartReceiver) -> None:
    receiver = webhook_receiver()
    subscribed(acme, receiver)
    happens(acme, *range(250))
    for _ in range(4):
        push()
    assert [message["data"]["count"] for message in receiver.messages] == [100, 100, 50]
    assert told(receiver) == list(range(250))


def test_a_receiver_that_was_away_gets_what_it_missed_in_order_and_can_tell_repeats(
    acme: House, webhook_receiver: StartReceiver
) -> None:
    receiver = webhook_receiver(statuses=[503, 503])
    secret = subscribed(acme, receiver)
    happens(acme, 1, 2)
    push()
    happens(acme, 3, ago=30)
    push()  # nothing overtakes the one before
    assert len(receiver.requests) == 1
    for _ in range(2):
        Bulletin.objects.update(deliver_at=timezone.now())
        push()
    push()
    assert told(receiver) == [1, 2, 1, 2, 1, 2, 3], "the first two tries were not taken"
    ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert len(set(ids)) == 2
    assert ids[0] == ids[1] == ids[2]
    assert receiver.verified(secret) == [True] * 4


def test_an_event_whose_transaction_took_long_is_not_lost(acme: House, webhook_receiver: StartReceiver) -> None:
    receiver = webhook_receiver()
    subscribed(acme, receiver)
    happens(acme, 1, ago=20)
    push()
    happens(acme, 2, ago=120)  # recorded before, seen only now
    push()
    push()
    assert told(receiver) == [1, 2]


def test_two_dispatchers_at_once_make_one_message(acme: House, webhook_receiver: StartReceiver) -> None:
    subscribed(acme, webhook_receiver())
    happens(acme, 1, 2)
    now = timezone.now()
    audit_feed.gather(now)
    audit_feed.gather(now)
    assert Bulletin.objects.filter(kind=Kind.AUDIT).count() == 1


def test_what_is_given_up_is_among_the_messages_and_sent_again_by_an_admin(
    acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    receiver = webhook_receiver(statuses=[500] * delivering.MOST_TRIES)
    subscribed(acme, receiver)
    happens(acme, 1, 2)
    for _ in range(delivering.MOST_TRIES):
        push()
        Bulletin.objects.filter(deliver_at__isnull=False).update(deliver_at=timezone.now())
    assert told(receiver) == [1, 2] * delivering.MOST_TRIES
    row = Bulletin.objects.get()
    assert row.deliver_at is None
    client = signed_in(acme.admin)
    seen = client.get("/admin/connections/bulletin/").content.decode()
    assert "The audit trail: 2 events" in seen
    assert "Given up" in seen
    client.post(f"/admin/connections/bulletin/{row.pk}/again/")
    push()
    row.refresh_from_db()
    assert row.delivered_at is not None
    assert (row.emailed_at, row.posted_at, row.emailed_to) == (None, None, [])
    AuditEvent.objects.get(action="tenant.bulletin_not_delivered")


def test_what_an_older_version_has_put_aside_is_sent_after_all(acme: House, webhook_receiver: StartReceiver) -> None:
    receiver = webhook_receiver()
    subscribed(acme, receiver)
    happens(acme, 1)
    audit_feed.gather(timezone.now())
    Bulletin.objects.update(deliver_at=None, attempts=1)
    push()
    assert told(receiver) == [1]


def test_nothing_is_sent_once_it_is_no_longer_wanted(
    acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    receiver, client = webhook_receiver(statuses=[500]), signed_in(acme.admin)
    subscribed(acme, receiver)
    happens(acme, 1)
    push()
    assert client.post(page(acme), form(acme)).status_code == 302
    assert not AuditFeed.objects.exists()
    row = Bulletin.objects.get()
    assert (row.deliver_at, row.trouble) == (None, audit_feed.NO_LONGER)
    client.post(f"/admin/connections/bulletin/{row.pk}/again/")
    push()
    happens(acme, 2)
    push()
    assert len(receiver.requests) == 1


def test_it_ends_with_the_webhook_and_needs_one(
    acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    client = signed_in(acme.admin)
    refused = client.post(page(acme), form(acme, audit_to_webhook="on"))
    assert "Enter the webhook&#x27;s URL first" in refused.content.decode()
    assert not AuditFeed.objects.exists()
    subscribed(acme, webhook_receiver())
    assert client.post(page(acme), form(acme, webhook_url="", audit_to_webhook="on")).status_code == 302
    assert not AuditFeed.objects.exists()


def test_a_suspended_organization_is_sent_nothing_until_it_is_resumed(
    acme: House, webhook_receiver: StartReceiver
) -> None:
    receiver = webhook_receiver()
    subscribed(acme, receiver)
    happens(acme, 1)
    acme.tenant.suspend("Unpaid.")
    push()
    assert receiver.requests == []
    acme.tenant.resume()
    push()
    assert told(receiver)[0] == 1


def test_only_who_may_set_the_webhook_sees_and_sets_it(
    acme: House, rival: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    acme.tenant.webhook_url = webhook_receiver().url
    acme.tenant.save()
    for user, status in ((acme.member, 403), (acme.auditor, 403), (rival.admin, 404)):
        assert signed_in(user).post(page(acme), form(acme, audit_to_webhook="on")).status_code == status
    assert not AuditFeed.objects.exists()
    kinds = signed_in(acme.admin).get(page(acme)).content.decode()
    assert 'name="audit_to_webhook"' in kinds
    assert 'value="audit.events"' not in kinds, "it is no kind that people are told"
    assert "audit.events" not in signed_in(acme.admin).get("/admin/mails/").content.decode()


def test_beat_has_it_gathered_and_sent(acme: House, webhook_receiver: StartReceiver) -> None:
    receiver = webhook_receiver()
    subscribed(acme, receiver)
    with transaction.atomic():
        happens(acme, 1)
    tasks.dispatch_bulletins()
    tasks.deliver_bulletin(bulletin_id=str(Bulletin.objects.get().pk))
    assert told(receiver) == [1]


def test_no_secret_is_in_what_is_sent(acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver) -> None:
    receiver = webhook_receiver()
    secret = subscribed(acme, receiver)
    connection = acme.connection(authorization="api_key")
    audit.record(acme.admin, "connection.changed", connection, tenant=acme.tenant, secrets=["api_key replaced"])
    AuditFeed.objects.update(since=timezone.now() - timedelta(minutes=5))
    audit_feed.gather(timezone.now() + timedelta(seconds=30))
    Bulletin.objects.update(deliver_at=timezone.now())
    send()
    said = receiver.requests[0].body.decode()
    assert "api_key replaced" in said
    assert secret not in said
    assert receiver.url not in said

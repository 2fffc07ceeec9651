"""A notice reaches the organization's webhook: signed, until it is taken, and with nothing secret in it."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from connections.models import AuditEvent, Notice, Tenant
from connections.notices import delivering
from tests.conftest import House
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_notices import attend, deliver, dies
from tests.servers.fixtures import StartReceiver
from tests.servers.receiver import Receiver


def subscribed(house: House, receiver: Receiver) -> str:
    """Set the organization's webhook and return its secret."""
    house.tenant.webhook_url = receiver.url
    house.tenant.save()
    return house.tenant.make_webhook_secret()


def deliver_again() -> timedelta:
    """Let the pause before the next try be over, and return how long it was."""
    notice = Notice.objects.get()
    assert notice.deliver_at is not None
    pause = notice.deliver_at - timezone.now()
    Notice.objects.update(deliver_at=timezone.now())
    deliver()
    return pause


def test_a_sign_in_that_ends_is_told_to_the_webhook(scene: StartScene, webhook_receiver: StartReceiver) -> None:
    scene, receiver = scene(refresh=False), webhook_receiver()
    secret = subscribed(scene.house, receiver)
    scene.sign_in()
    attend(scene)
    deliver()
    assert receiver.verified(secret) == [True]
    [message] = receiver.messages
    assert message["type"] == "connection.sign_in.ending"
    data, row = message["data"], scene.sign_in_row
    assert (data["connection_id"], data["connection_name"]) == (str(scene.connection.pk), "Orders")
    assert (data["reason"], data["until"]) == ("sign_in_ends", row.expires_at.isoformat())
    assert "No refresh token" in data["sentence"]
    assert data["admin_url"].endswith(f"/admin/connections/connection/{scene.connection.pk}/change/#sign-in")


def test_a_receiver_that_fails_twice_gets_it_at_the_third_try_with_the_same_id(
    scene: StartScene, webhook_receiver: StartReceiver
) -> None:
    scene, receiver = scene(), webhook_receiver(statuses=[503, 500])
    secret = subscribed(scene.house, receiver)
    scene.sign_in()
    dies(scene)
    deliver()
    assert Notice.objects.get().trouble == "Webhook: The webhook's receiver answered with HTTP status 503."
    deliver()  # not before its time
    assert len(receiver.requests) == 1
    pauses = [deliver_again(), deliver_again()]
    assert pauses[1] > 2 * pauses[0] > timedelta(minutes=2)
    assert receiver.verified(secret) == [True, True, True]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert [message["type"] for message in receiver.messages] == ["connection.sign_in.ended"] * 3
    notice = Notice.objects.get()
    assert (notice.attempts, notice.deliver_at, notice.trouble) == (3, None, "")
    assert notice.delivered_at is not None
    assert len(mail.outbox) == 1


def test_after_eight_tries_it_is_given_up_and_written_down(scene: StartScene, webhook_receiver: StartReceiver) -> None:
    scene, receiver = scene(), webhook_receiver(statuses=[500] * 20)
    subscribed(scene.house, receiver)
    scene.sign_in()
    dies(scene)
    deliver()
    while Notice.objects.get().deliver_at is not None:
        deliver_again()
    assert len(receiver.requests) == delivering.MOST_TRIES
    [event] = AuditEvent.objects.filter(action="connection.notice_not_delivered")
    assert event.data == {"mailed": True, "webhook_taken": False, "channel_told": False}


def test_a_sign_in_that_recovers_meanwhile_is_not_told_any_more(
    scene: StartScene, webhook_receiver: StartReceiver
) -> None:
    scene, receiver = scene(), webhook_receiver(statuses=[500])
    subscribed(scene.house, receiver)
    scene.sign_in()
    dies(scene)
    deliver()
    scene.sign_in()
    assert Notice.objects.get().deliver_at is None


def test_a_webhook_to_a_private_address_is_refused_with_its_sentence(
    scene: StartScene, webhook_receiver: StartReceiver, settings: Any
) -> None:
    scene, receiver = scene(), webhook_receiver()
    subscribed(scene.house, receiver)
    Tenant.objects.update(webhook_url="https://10.0.0.1/hook")
    scene.sign_in()
    dies(scene)
    settings.EGRESS_ALLOWED_NETWORKS = []
    deliver()
    notice = Notice.objects.get()
    assert "private or reserved network address" in notice.trouble
    assert notice.emailed_at is not None
    assert receiver.requests == []


def test_one_organizations_webhook_hears_nothing_of_another(
    scene: StartScene, rival: House, webhook_receiver: StartReceiver
) -> None:
    scene, receiver = scene(), webhook_receiver()
    subscribed(rival, receiver)
    scene.sign_in()
    dies(scene)
    deliver()
    assert receiver.requests == []
    assert Notice.objects.get().deliver_at is None


def test_no_secret_is_in_a_message_or_a_log(
    scene: StartScene, webhook_receiver: StartReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scene: Scene = scene()
    receiver = webhook_receiver(statuses=[500])
    secret = subscribed(scene.house, receiver)
    scene.sign_in()
    tokens = scene.sign_in_row.tokens()
    dies(scene)
    deliver()
    deliver_again()
    said = [caplog.text, str([(request.headers, request.body) for request in receiver.requests])]
    said += [str(list(model.objects.values())) for model in (AuditEvent, Notice, Tenant)]
    for hidden in (secret, secret.removeprefix("whsec_"), tokens.access_token, tokens.refresh_token):
        assert not [text for text in said if hidden in text]

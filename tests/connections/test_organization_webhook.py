"""An organization's admin sets a webhook: where to, signed with which secret, and does it arrive?"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from connections import rotation, sealing
from connections.errors import SealBroken
from connections.models import AuditEvent, Tenant, User
from connections.notices import webhooks
from tests.conftest import House
from tests.servers.fixtures import StartReceiver

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+")


def page(house: House, button: str = "change") -> str:
    return f"/admin/connections/tenant/{house.tenant.pk}/{button}/"


def save(client: Client, house: House, url: str) -> HttpResponse:
    rest = {"retention_days": "30", "decision_hours": "24"}
    return client.post(page(house), {"name": house.tenant.name, "webhook_url": url, **rest})


def secret_in(answer: HttpResponse) -> str:
    [secret] = set(SECRET.findall(answer.content.decode()))
    return str(secret)


def said(client: Client, house: House) -> str:
    return str(list(client.get(page(house)).context["messages"])[-1])


def test_a_new_webhook_gets_a_secret_that_is_shown_once(
    acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    client, receiver = signed_in(acme.admin), webhook_receiver()
    answer = save(client, acme, receiver.url)
    secret = secret_in(answer)
    assert "no-store" in answer["Cache-Control"]
    acme.tenant.refresh_from_db()
    assert acme.tenant.webhook_secret() == secret
    assert secret not in acme.tenant.sealed_webhook_secret
    for path in (page(acme), page(acme, "history"), "/admin/connections/tenant/", "/admin/connections/auditevent/"):
        assert not SECRET.search(client.get(path).content.decode())
    assert save(client, acme, receiver.url).status_code == 302
    assert not SECRET.search(str(list(AuditEvent.objects.values())))


def test_a_test_message_arrives_signed(acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver) -> None:
    client, receiver = signed_in(acme.admin), webhook_receiver()
    secret = secret_in(save(client, acme, receiver.url))
    client.post(page(acme, "webhook-test"))
    assert said(client, acme) == "The webhook's receiver has taken the test."
    assert receiver.verified(secret) == [True]
    [message] = receiver.messages
    assert (message["type"], message["data"]["organization"]) == ("webhook.test", "acme")
    [request] = receiver.requests
    assert (request.method, request.query) == ("POST", "team=a")
    assert secret not in str(request.headers) + request.body.decode()


def test_a_new_secret_takes_the_place_of_the_old_one(
    acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    client, receiver = signed_in(acme.admin), webhook_receiver()
    old = secret_in(save(client, acme, receiver.url))
    new = secret_in(client.post(page(acme, "webhook-secret")))
    assert old != new
    client.post(page(acme, "webhook-test"))
    assert (receiver.verified(old), receiver.verified(new)) == ([False], [True])
    actions = AuditEvent.objects.values_list("action", flat=True)
    assert list(actions).count("tenant.webhook_secret_made") == 2


@pytest.mark.parametrize("status", [301, 400, 410, 500])
def test_a_receiver_that_does_not_take_the_test_is_named(
    status: int, acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    client, receiver = signed_in(acme.admin), webhook_receiver(statuses=[status])
    save(client, acme, receiver.url)
    client.post(page(acme, "webhook-test"))
    assert said(client, acme) == f"The webhook's receiver answered with HTTP status {status}."
    assert len(receiver.requests) == 1
    assert AuditEvent.objects.filter(action="tenant.webhook_tested", outcome="webhook_not_taken").exists()


def test_a_webhook_that_is_removed_takes_its_secret_along(
    acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    client = signed_in(acme.admin)
    save(client, acme, webhook_receiver().url)
    save(client, acme, "")
    acme.tenant.refresh_from_db()
    assert (acme.tenant.webhook_url, acme.tenant.sealed_webhook_secret) == ("", "")
    for button in ("webhook-test", "webhook-secret"):
        client.post(page(acme, button))
        assert said(client, acme) == "Enter the webhook's URL first."


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://10.0.0.1/hook", "private or reserved network address"),
        ("https://[::ffff:169.254.169.254]/latest", "private or reserved network address"),
        ("https://localhost/hook", "localhost is the machine this product runs on"),
        ("http://hooks.example.com/", "Use https://"),
        ("https://user:secret@hooks.example.com/", "user name or password"),
        ("https://hooks.internal/", "only inside a private network"),
    ],
)
def test_a_webhook_to_a_private_address_is_refused_with_its_sentence(
    url: str, sentence: str, acme: House, signed_in: SignedIn
) -> None:
    answer = save(signed_in(acme.admin), acme, url)
    assert answer.status_code == 200
    assert sentence in answer.content.decode()
    assert Tenant.objects.get(pk=acme.tenant.pk).webhook_url == ""


def test_an_address_that_became_private_later_is_refused_when_it_is_used(
    acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver, settings: Any
) -> None:
    client, receiver = signed_in(acme.admin), webhook_receiver()
    save(client, acme, receiver.url)
    Tenant.objects.update(webhook_url=receiver.url.replace("http:", "https:"))
    settings.EGRESS_ALLOWED_NETWORKS = []
    settings.EGRESS_ALLOWED_PORTS = [receiver.port]
    client.post(page(acme, "webhook-test"))
    assert "private or reserved network address" in said(client, acme)
    assert receiver.requests == []


def test_only_admins_see_the_url_and_strangers_nothing(
    acme: House, rival: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    receiver = webhook_receiver()
    save(signed_in(acme.admin), acme, receiver.url)
    assert receiver.url in signed_in(acme.admin).get(page(acme)).content.decode()
    for person in (acme.member, acme.auditor):
        seen = signed_in(person).get(page(acme)).content.decode()
        assert receiver.url not in seen
        assert "webhook-test" not in seen
    assert signed_in(rival.admin).get(page(acme)).status_code == 404


def test_the_secret_is_bound_to_its_organization_and_is_rotated_with_the_others(
    acme: House, rival: House, settings: Any
) -> None:
    acme.tenant.make_webhook_secret()
    rival.tenant.sealed_webhook_secret = acme.tenant.sealed_webhook_secret
    with pytest.raises(SealBroken):
        rival.tenant.webhook_secret()
    secret = acme.tenant.webhook_secret()
    settings.SEAL_KEYS = ["bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleS0=", *settings.SEAL_KEYS]
    list(rotation.rotate())
    acme.tenant.refresh_from_db()
    assert acme.tenant.sealed_webhook_secret.startswith(sealing.current_prefix())
    assert acme.tenant.webhook_secret() == secret


def test_the_signature_is_the_one_of_the_specification() -> None:
    from datetime import UTC, datetime

    # The example of the specification's own libraries.
    headers = webhooks.signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC), b'{"test": 2432232314}',
    )  # fmt: skip
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

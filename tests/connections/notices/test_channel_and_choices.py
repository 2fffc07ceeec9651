"""An organization's channel, what each person is mailed about, and messages that are tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from connections import rotation, sealing
from connections.models import AuditEvent, Bulletin, Channel, Matter, User
from tests.conftest import House
from tests.servers.fixtures import StartReceiver
from tests.servers.mail import MailServer
from tests.telling import tell

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


def page(house: House, button: str = "change") -> str:
    return f"/admin/connections/tenant/{house.tenant.pk}/{button}/"


def said(client: Client, house: House) -> str:
    return str(list(client.get(page(house)).context["messages"])[-1])


def down(house: House) -> Any:
    row = house.connection("Wiki", "https://wiki.example.com/mcp", probe_failures=3)
    row.set_reachability("unreachable", "connect_timeout", "")
    return row


def test_a_channel_is_set_sealed_tested_and_removed(
    acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    client, chat = signed_in(acme.admin), webhook_receiver()
    client.post(page(acme, "channel-test"))
    assert said(client, acme) == "Enter the channel's address first."
    assert client.post(page(acme, "channel"), {"url": chat.url}).status_code == 302
    channel = Channel.objects.get()
    assert channel.url() == chat.url
    assert chat.url not in channel.sealed_url
    client.post(page(acme, "channel-test"))
    assert said(client, acme) == "The chat has taken the test."
    assert chat.messages[0]["text"] == "A test of acme's channel, sent by admin@acme.example."
    shown = client.get(page(acme)).content.decode() + str(list(AuditEvent.objects.values()))
    assert chat.url not in shown
    assert "team=a" not in shown
    client.post(page(acme, "channel"), {"url": "", "untold": ["tools.to_review"]})
    channel.refresh_from_db()
    assert (channel.url(), channel.untold) == (chat.url, ["tools.to_review"])
    client.post(page(acme, "channel-remove"))
    assert not Channel.objects.exists()
    assert [event.action for event in AuditEvent.objects.filter(action__contains="channel").order_by("at")] == [
        "tenant.channel_set", "tenant.channel_tested", "tenant.channel_set", "tenant.channel_removed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://10.0.0.1/hook", "private or reserved network address"),
        ("http://hooks.example.com/", "Use https://"),
        ("", "Enter the URL that the chat gives"),
    ],
)
def test_a_channel_that_cannot_be_used_is_refused_at_its_field(
    url: str, sentence: str, acme: House, signed_in: SignedIn
) -> None:
    answer = signed_in(acme.admin).post(page(acme, "channel"), {"url": url})
    assert answer.status_code == 200
    assert sentence in answer.content.decode()
    assert not Channel.objects.exists()


def test_a_chat_that_refuses_is_named_without_its_address(
    acme: House, signed_in: SignedIn, webhook_receiver: StartReceiver
) -> None:
    client, chat = signed_in(acme.admin), webhook_receiver(statuses=[404])
    client.post(page(acme, "channel"), {"url": chat.url})
    client.post(page(acme, "channel-test"))
    assert said(client, acme) == "The chat answered with HTTP status 404."


def test_the_seal_of_a_channel_is_rotated(acme: House, settings: Any) -> None:
    channel = Channel(tenant=acme.tenant)
    channel.set_url("https://hooks.example.com/T/B/x")
    channel.save()
    settings.SEAL_KEYS = ["bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE=", *settings.SEAL_KEYS]
    list(rotation.rotate())
    channel.refresh_from_db()
    assert channel.sealed_url.startswith(sealing.current_prefix())
    assert channel.url() == "https://hooks.example.com/T/B/x"


def test_a_channel_leaves_out_what_it_is_not_told(
    acme: House, mail_server: MailServer, webhook_receiver: StartReceiver
) -> None:
    chat = webhook_receiver()
    channel = Channel(tenant=acme.tenant, untold=["connection.unreachable"])
    channel.set_url(chat.url)
    channel.save()
    down(acme)
    tell(minutes=4)
    assert (len(mail_server.taken), chat.requests) == (1, [])


def test_everybody_chooses_their_own_mails_and_nobody_elses(
    acme: House, rival: House, signed_in: SignedIn, mail_server: MailServer
) -> None:
    member = signed_in(acme.member)
    text = member.get("/admin/mails/").content.decode()
    assert "Sign-ins that will end" in text
    assert "Calls that wait for an approval" not in text  # which no member is mailed about
    theirs, own = rival.membership(rival.admin), acme.membership(acme.member)
    assert member.post("/admin/mails/", {f"of-{theirs.pk}-mailed": []}).status_code == 302
    own.refresh_from_db()
    assert own.unmailed == ["connection.sign_in", "call.login_required"]
    theirs.refresh_from_db()
    assert theirs.unmailed == []
    admin, mine = signed_in(acme.admin), acme.membership(acme.admin)
    admin.post("/admin/mails/", {f"of-{mine.pk}-mailed": ["connection.sign_in", "tools.to_review"]})
    mine.refresh_from_db()
    assert "connection.unreachable" in mine.unmailed
    assert AuditEvent.objects.filter(action="membership.changed").count() == 2
    admin.post("/admin/mails/", {f"of-{mine.pk}-mailed": ["connection.sign_in", "tools.to_review"]})
    assert AuditEvent.objects.filter(action="membership.changed").count() == 2
    down(acme)
    tell(minutes=4)
    assert mail_server.taken == []
    assert "as an auditor" in signed_in(acme.auditor).get("/admin/mails/").content.decode()


def test_what_was_given_up_is_sent_again_to_whoever_has_not_got_it(
    acme: House, rival: House, signed_in: SignedIn, mail_server: MailServer, webhook_receiver: StartReceiver
) -> None:
    hook = webhook_receiver(statuses=[500])
    acme.tenant.webhook_url = hook.url
    acme.tenant.save()
    acme.tenant.make_webhook_secret()
    down(acme)
    tell(minutes=4)
    Bulletin.objects.update(deliver_at=None, attempts=8)
    row, client = Bulletin.objects.get(), signed_in(acme.admin)
    listed = client.get("/admin/connections/bulletin/").content.decode()
    assert "Given up" in listed
    assert "Webhook: The webhook&#x27;s receiver answered with HTTP status 500." in listed
    assert "Connections that cannot be reached: Wiki" in listed
    one = client.get(f"/admin/connections/bulletin/{row.pk}/change/").content.decode()
    assert "Send again" in one
    assert "admin@acme.example" in one
    assert (
        "Send again"
        not in signed_in(acme.auditor).get(f"/admin/connections/bulletin/{row.pk}/change/").content.decode()
    )
    assert client.post(f"/admin/connections/bulletin/{row.pk}/again/").status_code == 302
    tell()
    assert (len(mail_server.taken), len(hook.requests)) == (1, 2)
    row.refresh_from_db()
    assert (row.trouble, row.deliver_at) == ("", None)
    client.post(f"/admin/connections/bulletin/{row.pk}/again/")
    tell()
    assert len(hook.requests) == 2
    Bulletin.objects.update(trouble="x")
    Matter.objects.open().resolve(row.created_at)
    client.post(f"/admin/connections/bulletin/{row.pk}/again/")
    row.refresh_from_db()
    assert row.deliver_at is None  # it is no longer so

"""Each kind of waiting thing: by mail, webhook and chat comes one message, and its link decides it after sign-in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import Channel, Connection, Matter, Notice
from connections.notices import delivering, notices
from tests.conftest import PASSWORD, House
from tests.servers.asking import asking
from tests.servers.fixtures import StartReceiver
from tests.servers.mail import MailServer
from tests.servers.receiver import Receiver
from tests.telling import find, tell
from tests.tools.conftest import OpenShop, Shop
from tools.models import Call, Tool

pytestmark = pytest.mark.django_db

AT_ONCE = {"Prefer": "wait=0"}
REACHED = {"reachability_state": "reachable", "tools_state": "in_sync"}


@dataclass
class Ways:
    """The three ways by which acme is told."""

    mail: MailServer
    webhook: Receiver
    chat: Receiver

    def links(self) -> list[str]:
        """The one link that each way has brought, as paths; there is one message by each."""
        [(reader, message)] = self.mail.taken
        assert reader == "admin@acme.example"
        [posted], [said] = self.webhook.messages, self.chat.messages
        [linked] = re.findall(r"<(http[^|>]*)\|", said["text"])
        mailed = next(line for line in message.get_content().splitlines() if "/admin/" in line)
        return [address.partition("127.0.0.1")[2] for address in (mailed, posted["data"]["admin_url"], linked)]


@pytest.fixture
def ways(acme: House, mail_server: MailServer, webhook_receiver: StartReceiver) -> Ways:
    webhook, chat = webhook_receiver(), webhook_receiver()
    acme.tenant.webhook_url = webhook.url
    acme.tenant.save()
    acme.tenant.make_webhook_secret()
    channel = Channel(tenant=acme.tenant)
    channel.set_url(chat.url)
    channel.save()
    return Ways(mail_server, webhook, chat)


def follow(path: str) -> tuple[Client, str]:
    """Follow a link as somebody who has to sign in first; return the browser and the page it ends at."""
    browser = Client()
    entrance = browser.get(path)
    assert entrance.status_code == 302
    signed = browser.post(entrance["Location"], {"username": "admin@acme.example", "password": PASSWORD})
    assert signed["Location"] == path.partition("#")[0]
    answer = browser.get(path)
    assert answer.status_code == 200
    return browser, answer.content.decode()


def approval(open_shop: OpenShop, acme: House) -> Callable[[Client, str], bool]:
    shop = open_shop()
    shop.set_tool("echo", policy="ask")
    shop.call("echo", {"text": "x"}, headers=AT_ONCE)
    call = Call.objects.get()

    def decide(browser: Client, page: str) -> bool:
        assert f'action="/admin/tools/call/{call.pk}/approve/"' in page
        browser.post(f"/admin/tools/call/{call.pk}/approve/")
        return Call.objects.get().state != "awaiting_approval"

    return decide


def question(open_shop: OpenShop, acme: House) -> Callable[[Client, str], bool]:
    shop = open_shop(asking(), "modern")
    shop.call("ask_form")
    call = Call.objects.get()

    def decide(browser: Client, page: str) -> bool:
        [mark] = re.findall(r'name="mark" value="([^"]+)"', page)
        browser.post(f"/admin/tools/call/{call.pk}/answer/", {"action": "decline", "mark": mark})
        return Call.objects.get().state != "input_required"

    return decide


def review(open_shop: OpenShop, acme: House) -> Callable[[Client, str], bool]:
    connection = acme.connection("Billing", **REACHED | {"tools_state": "changes_to_review"})
    names = {"name": "pay", "public_name": "billing__pay", "digest": "d" * 64}
    tool = Tool.objects.create(connection=connection, definition={"name": "pay"}, **names)

    def decide(browser: Client, page: str) -> bool:
        assert "billing__pay" in page
        assert 'value="approve_chosen"' in page
        browser.post(f"/admin/tools/tool/{tool.pk}/approve/", {"digest": tool.digest})
        tool.refresh_from_db()
        return tool.approved_digest == tool.digest

    return decide


def unreachable(open_shop: OpenShop, acme: House) -> Callable[[Client, str], bool]:
    connection = acme.connection("Wiki", "https://wiki.example.com/mcp")
    connection.set_reachability("unreachable", "connect_timeout", "It did not accept the connection.")
    Connection.objects.filter(pk=connection.pk).update(probe_failures=3)

    def decide(browser: Client, page: str) -> bool:
        assert f'action="/admin/connections/connection/{connection.pk}/check/"' in page
        browser.post(f"/admin/connections/connection/{connection.pk}/check/")
        connection.refresh_from_db()
        return connection.next_probe_at is not None and connection.next_probe_at <= timezone.now()

    return decide


def sign_in(open_shop: OpenShop, acme: House) -> Callable[[Client, str], bool]:
    connection = acme.connection("Calendar", authorization="oauth", credential_state="refused", **REACHED)
    notices.notify(
        connection,
        None,
        "sign_in_revoked",
        "The provider says no.",
        until=None,
        since=timezone.now(),
        now=timezone.now(),
    )
    return lambda _, page: f'action="/oauth/{connection.pk}/sign-in/"' in page or ">Sign in</button>" in page


def login(open_shop: OpenShop, acme: House) -> Callable[[Client, str], bool]:
    shop = open_shop()
    shop.set(authorization="api_key", sharing="personal")
    for _ in range(3):
        answer = shop.call("echo", {"text": "x"}, headers={"Prefer": "wait-for-login"})
        assert answer.json()["login_required"]["person"] == "admin@acme.example"

    def decide(browser: Client, page: str) -> bool:
        [revision] = re.findall(r'name="revision" value="([^"]+)"', page)
        connect = f"/admin/connections/connection/{shop.connection.pk}/connect/"
        browser.post(connect, {"revision": revision, "api_key": "k3y-0123456789"})
        return not Call.objects.awaiting_login().exists()

    return decide


@pytest.mark.parametrize(
    "kind", [approval, question, review, unreachable, sign_in, login], ids=lambda kind: kind.__name__
)
def test_one_message_by_each_way_whose_link_decides_it(
    kind: Callable[[OpenShop, House], Callable[[Client, str], bool]], acme: House, open_shop: OpenShop, ways: Ways
) -> None:
    decide = kind(open_shop, acme)
    for _ in range(2):
        tell(minutes=11)
        for notice_id in notices.due(timezone.now()):
            delivering.deliver(notice_id)
    mailed, posted, linked = ways.links()
    assert mailed == posted == linked
    browser, page = follow(mailed)
    assert decide(browser, page)
    find()
    tell(minutes=30)
    assert (len(ways.mail.taken), len(ways.webhook.requests), len(ways.chat.requests)) == (1, 1, 1)
    assert kind not in (approval, question, login) or not Matter.objects.open().exists()


def test_an_outage_of_forty_connections_is_one_message_in_the_chat_too(acme: House, ways: Ways) -> None:
    for count in range(40):
        connection = acme.connection(f"Orders {count:02}", f"https://mcp.example.com/{count}")
        connection.set_reachability("unreachable", "connect_timeout", "m4rk")
    Connection.objects.update(probe_failures=3)
    tell(minutes=4)
    tell(minutes=10)
    assert (len(ways.mail.taken), len(ways.webhook.requests)) == (1, 1)
    [said] = ways.chat.messages
    assert said["text"].startswith("*acme: 40 connections cannot be reached*\n• <http")
    assert said["text"].count("\n•") == 20
    assert "and 20 more" in said["text"]
    assert "m4rk" not in said["text"]


def test_sign_ins_that_end_together_are_told_together(acme: House, ways: Ways) -> None:
    now = timezone.now()
    for count in range(9):
        row = acme.connection(f"Calendar {count}", authorization="oauth", credential_state="refused", **REACHED)
        notices.notify(row, None, "sign_in_revoked", "The provider says no.", until=None, since=now, now=now)
        for notice_id in notices.due(timezone.now()):
            delivering.deliver(notice_id)
    assert len(ways.mail.taken) == 3
    Notice.objects.filter(deliver_at__isnull=False).update(deliver_at=now)
    for notice_id in notices.due(timezone.now()):
        delivering.deliver(notice_id)
    assert [str(message["Subject"]) for _, message in ways.mail.taken][3:] == ["acme: 6 sign-ins need somebody"]
    assert ways.mail.taken[3][1].get_content().count("#sign-in") == 6
    assert len(ways.chat.requests) == 4
    assert len(ways.webhook.requests) == 9  # each has its own id
    assert not Notice.objects.filter(deliver_at__isnull=False).exists()
    assert Notice.objects.values("emailed_to").distinct().count() == 1


def test_a_digest_that_fails_is_tried_again_together(acme: House, ways: Ways) -> None:
    now = timezone.now()
    for count in range(5):
        row = acme.connection(f"Calendar {count}", authorization="oauth", credential_state="refused", **REACHED)
        notices.notify(row, None, "sign_in_revoked", "The provider says no.", until=None, since=now, now=now)
    Notice.objects.update(deliver_at=now)
    ways.mail.refusals["admin@acme.example"] = b"451 later"
    delivering.deliver(notices.due(timezone.now())[0])
    assert ways.mail.taken == []
    assert Notice.objects.values("deliver_at").distinct().count() == 1
    ways.mail.refusals.clear()
    Notice.objects.update(deliver_at=now)
    delivering.deliver(notices.due(timezone.now())[0])
    assert [str(message["Subject"]) for _, message in ways.mail.taken] == ["acme: 5 sign-ins need somebody"]
    assert len(ways.chat.requests) == 1
    assert not Notice.objects.exclude(trouble="").exists()


def test_names_cannot_mention_or_link_in_the_chat(open_shop: OpenShop, acme: House, ways: Ways) -> None:
    shop: Shop = open_shop()
    shop.assignment.name = "<!channel> <https://evil.example|click>"
    shop.assignment.save()
    shop.set_tool("echo", policy="ask")
    shop.call("echo", {"text": "x"}, headers=AT_ONCE)
    tell(minutes=1)
    [said] = ways.chat.messages
    assert "<!channel>" not in said["text"]
    assert re.findall(r"<([^|>]*)", said["text"]) == [
        f"http://127.0.0.1/admin/tools/call/{Call.objects.get().pk}/change/"
    ]

"""A call that waits for a person is told to the organization's admins: once, by name and link, until it is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from connections.models import Matter, User
from tests.conftest import PASSWORD, House
from tests.servers.asking import asking
from tests.servers.fixtures import StartReceiver
from tests.servers.mail import MailServer
from tests.telling import find, later, send, tell
from tests.tools.conftest import OpenShop, Shop
from tools.calls import life
from tools.models import Call

AT_ONCE = {"Prefer": "wait=0"}
SECRET = "m4rk-argument-0123456789"


@pytest.fixture
def asking_first(shop: Shop) -> Shop:
    shop.set_tool("echo", policy="ask")
    return shop


def ask(shop: Shop, number: int = 1) -> list[Call]:
    for _ in range(number):
        answer = shop.call("echo", {"text": SECRET}, headers=AT_ONCE)
        assert answer.json()["state"] == "awaiting_approval"
    return list(Call.objects.order_by("created_at"))


def subjects(mail_server: MailServer) -> list[str]:
    return [str(message["Subject"]) for _, message in mail_server.taken]


def test_the_admin_is_told_of_the_call_and_the_link_decides_it(
    asking_first: Shop, acme: House, mail_server: MailServer
) -> None:
    [call] = ask(asking_first)
    find()
    send()
    assert mail_server.taken == []  # there may be more in a moment
    tell()
    tell(days=1)
    [(reader, message)] = mail_server.taken
    assert (reader, message["Subject"]) == ("admin@acme.example", "orders__echo (acme): a call waits for an approval")
    text = message.get_content()
    assert "orders__echo, for Nightly orders, until " in text
    assert SECRET not in text
    [link] = [line for line in text.splitlines() if f"/admin/tools/call/{call.pk}/change/" in line]
    path = link[link.index("/admin/") :]
    browser = Client()
    entrance = browser.get(path)
    assert entrance.status_code == 302
    signed = browser.post(entrance["Location"], {"username": acme.admin.username, "password": PASSWORD})
    assert signed["Location"] == path
    assert "Approve" in browser.get(path).content.decode()
    browser.post(f"/admin/tools/call/{call.pk}/approve/")
    find()
    assert not Matter.objects.open().exists()


def test_many_calls_at_once_are_one_mail_and_one_message(
    asking_first: Shop, acme: House, mail_server: MailServer, webhook_receiver: StartReceiver
) -> None:
    receiver = webhook_receiver()
    acme.tenant.webhook_url = receiver.url
    acme.tenant.save()
    secret = acme.tenant.make_webhook_secret()
    calls = ask(asking_first, 4)
    find()
    later(seconds=20)
    calls = ask(asking_first)
    life.refuse(calls[0], by="admin@acme.example", reason="")
    tell()
    assert subjects(mail_server) == ["acme: 4 calls wait for an approval"]
    assert receiver.verified(secret) == [True]
    [message] = receiver.messages
    assert message["type"] == "call.awaiting_approval"
    items = message["data"]["items"]
    assert [item["call_id"] for item in items] == [str(call.pk) for call in calls[1:]]
    assert (items[0]["tool"], items[0]["assignment"]) == ("orders__echo", "Nightly orders")
    assert items[0]["admin_url"].endswith(f"/admin/tools/call/{calls[1].pk}/change/")
    assert SECRET not in str(message)


def test_a_call_that_is_decided_by_then_is_not_told(asking_first: Shop, mail_server: MailServer) -> None:
    calls = ask(asking_first, 2)
    life.approve(calls[0], by="admin@acme.example")
    find()
    later(minutes=1)
    find()
    life.refuse(calls[1], by="admin@acme.example", reason="")  # between the bulletin and its mail
    send()
    assert mail_server.taken == []
    assert not Matter.objects.open().exists()


def test_a_question_is_told_without_its_words_and_the_next_one_anew(
    open_shop: OpenShop, mail_server: MailServer
) -> None:
    shop = open_shop(asking(), "modern")
    asked = shop.call("ask_form").json()
    tell()
    assert subjects(mail_server) == ["orders__ask_form (acme): a call waits for an answer"]
    assert "What do you want to order?" not in mail_server.taken[0][1].get_content()
    ((key, _),) = asked["input_required"]["requests"].items()
    shop.api.post(f"/v1/calls/{asked['id']}/input", {"responses": {key: {"action": "decline"}}}, headers=AT_ONCE)
    find()
    assert not Matter.objects.open().exists()


def test_a_call_that_waited_through_a_suspension_is_not_told_again(
    asking_first: Shop, acme: House, superuser: User, mail_server: MailServer, signed_in: Callable[[Any], Client]
) -> None:
    ask(asking_first)
    tell()
    page = f"/admin/connections/tenant/{acme.tenant.pk}"
    staff = signed_in(superuser)
    assert staff.post(f"{page}/suspend/", {"reason": "Unpaid."}).status_code == 302
    tell(minutes=10)
    assert staff.post(f"{page}/resume/").status_code == 302
    tell(minutes=10)
    assert len(mail_server.taken) == 1
    assert Matter.objects.open().count() == 1

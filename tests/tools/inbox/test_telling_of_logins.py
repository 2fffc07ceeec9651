"""Who is to connect is told, once, however many calls wait for it; the link leads there, and done is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from connections.models import Bulletin, Matter, User
from tests.conftest import PASSWORD, House
from tests.live import Api
from tests.servers.fixtures import StartReceiver
from tests.servers.mail import MailServer
from tests.telling import find, later, send, tell
from tests.tools.calls.test_logins import ask, half_connected
from tests.tools.calls.test_personal_keys import BOB, Team
from tools.models import Call

SignedIn = Callable[[User | None], Client]


@pytest.fixture
def team(api: Api, acme: House, mcp_server: Any, signed_in: SignedIn, probed: Any) -> Team:
    return half_connected(Team(acme, mcp_server("modern"), api, signed_in, probed))


def test_the_owner_is_told_once_and_the_link_leads_to_connect(
    team: Team, mail_server: MailServer, webhook_receiver: StartReceiver
) -> None:
    receiver, tenant = webhook_receiver(), team.house.tenant
    tenant.webhook_url = receiver.url
    tenant.save()
    secret = tenant.make_webhook_secret()
    for _ in range(3):
        ask(team)
    tell()
    ask(team)
    tell(minutes=30)
    [(reader, message)] = mail_server.taken
    assert reader == "member@acme.example"
    assert message["Subject"] == "Orders (acme): calls wait until member@acme.example has connected"
    text = message.get_content()
    assert "Orders, for Of Bob, until " in text
    assert "because they are calls of your assignments in acme." in text
    [path] = [line.partition("127.0.0.1")[2] for line in text.splitlines() if line.endswith("/connect/")]
    assert receiver.verified(secret) == [True]
    [posted] = receiver.messages
    assert posted["type"] == "call.login_required"
    assert posted["data"]["member"] == "member@acme.example"
    assert posted["data"]["admin_url"].endswith(path)
    [item] = posted["data"]["items"]
    assert (item["connection_name"], item["assignment"]) == ("Orders", "Of Bob")
    browser = Client()
    entrance = browser.get(path)
    signed = browser.post(entrance["Location"], {"username": "member@acme.example", "password": PASSWORD})
    assert signed["Location"] == path
    [revision] = re.findall(r'name="revision" value="([^"]+)"', browser.get(path).content.decode())
    browser.post(path, {"revision": revision, "api_key": BOB})
    assert not Call.objects.awaiting_login().exists()
    find()
    assert not Matter.objects.open().exists()


def test_each_owner_has_a_message_of_their_own_and_a_later_need_another(team: Team, mail_server: MailServer) -> None:
    ask(team)
    team.signed_in(team.ada).post(f"/admin/connections/connection/{team.row.pk}/disconnect/")
    ask(team, team.of_ada)
    tell()
    assert sorted(reader for reader, _ in mail_server.taken) == ["admin@acme.example", "member@acme.example"]
    assert Bulletin.objects.count() == 2
    team.connect(team.bob, BOB)
    find()
    team.signed_in(team.bob).post(f"/admin/connections/connection/{team.row.pk}/disconnect/")
    ask(team)
    tell(minutes=30)
    assert [reader for reader, _ in mail_server.taken[2:]] == ["member@acme.example"]


def test_what_is_done_by_then_is_not_told(team: Team, mail_server: MailServer) -> None:
    ask(team)
    find()
    later(minutes=1)
    find()
    team.connect(team.bob, BOB)  # between the bulletin and its mail
    send()
    assert mail_server.taken == []


def test_a_member_chooses_not_to_be_mailed(team: Team, mail_server: MailServer) -> None:
    page = team.signed_in(team.bob).get("/admin/mails/").content.decode()
    assert 'value="call.login_required" ' in page
    assert 'value="call.awaiting_approval"' not in page
    membership = team.house.membership(team.bob)
    membership.unmailed = ["call.login_required"]
    membership.save()
    ask(team)
    tell()
    assert mail_server.taken == []


def test_a_deleted_person_is_told_nothing_and_leaves_nothing(team: Team, mail_server: MailServer) -> None:
    ask(team)
    find()
    team.bob.delete()
    find()
    assert not Matter.objects.open().exists()
    tell()
    assert mail_server.taken == []

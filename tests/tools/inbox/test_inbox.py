"""One page has what waits for a person, and nothing that is not theirs to do; what is done leaves it by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from connections.models import AuditEvent, Connection, Handling, Membership, Notice, Role, User
from tests.conftest import House
from tests.tools.conftest import Shop
from tools import tasks
from tools.models import Call

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
INBOX = "/admin/inbox/"
REACHED = {"reachability_state": "reachable", "tools_state": "in_sync"}
DEAD = {"authorization": "oauth", "credential_state": "refused", "credential_reason": "sign_in_revoked", **REACHED}
AWAY = {"reachability_state": "unreachable", "reachability_reason": "connect_timeout"}


def page(client: Client, address: str = INBOX) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer
    return unescape(answer.content.decode())


def titles(client: Client, address: str = INBOX) -> list[str]:
    return re.findall(r'class="open breakable" href="[^"]*">([^<]*)<', page(client, address))


def keys(client: Client, address: str = INBOX) -> list[str]:
    return re.findall(r'data-key="([^"]*)"', page(client, address))


def number(client: Client) -> int:
    return int(client.get("/admin/inbox/count/").json()["count"])


def ask(shop: Shop, times: int = 1, **arguments: Any) -> None:
    shop.set_tool("echo", policy="ask")
    for _ in range(times):
        answer = shop.call("echo", arguments or {"text": "x"}, headers={"Prefer": "wait=0"})
        assert answer.json()["state"] == "awaiting_approval"


def noticed(connection: Connection, owner: User | None = None) -> Notice:
    return Notice.objects.create(
        connection=connection, owner=owner, reason="sign_in_revoked", sentence="The provider says no."
    )


def test_each_kind_of_thing_waits_for_an_admin_newest_first(shop: Shop, acme: House, signed_in: SignedIn) -> None:
    acme.connection("Billing", **REACHED | {"tools_state": "changes_to_review"}, tools_sentence="1 tool is new.")
    noticed(acme.connection("Calendar", **DEAD))
    acme.connection("Wiki", "https://wiki.example.com/mcp", **AWAY)
    ask(shop)
    client = signed_in(acme.admin)
    assert titles(client) == ["orders__echo", "Wiki", "Calendar", "Billing"]
    text = page(client)
    assert "Nightly orders wants to call it on Orders." in text
    assert "1 tool is new." in text
    assert "The provider says no." in text
    assert f"/admin/tools/tool/?connection__id__exact={Connection.objects.get(name='Billing').pk}&availability" in text
    assert "Inbox (4)" in text
    assert number(client) == 4
    kinds = {"approval": "orders__echo", "review": "Billing", "sign_in": "Calendar", "broken": "Wiki"}
    for kind, title in kinds.items():
        assert titles(client, f"{INBOX}?kind={kind}") == [title]


def test_nobody_sees_what_is_not_theirs_to_do(
    shop: Shop, acme: House, rival: House, reviewer: User, signed_in: SignedIn
) -> None:
    ask(shop)
    acme.connection("Wiki", **AWAY)
    acme.connection("Billing", tools_state="changes_to_review")
    noticed(acme.connection("Calendar", **DEAD))
    noticed(acme.connection("Mail", **DEAD, sharing="personal"), acme.admin)
    assert len(titles(signed_in(acme.admin))) == 5
    for user in (acme.member, acme.auditor, rival.admin, reviewer):
        assert "Nothing waits for you." in page(signed_in(user))
        assert number(signed_in(user)) == 0
    acme.tenant.suspend("Unpaid.")
    assert "Nothing waits for you." in page(signed_in(acme.admin))


def test_a_personal_sign_in_waits_for_whose_it_is(acme: House, signed_in: SignedIn) -> None:
    noticed(acme.connection("Mail", **DEAD, sharing="personal"), acme.member)
    assert titles(signed_in(acme.member)) == ["Mail"]
    assert number(signed_in(acme.member)) == 1
    acme.membership(acme.member).delete()
    Membership.objects.create(user=acme.member, tenant=acme.tenant, role=Role.AUDITOR)
    assert titles(signed_in(User.objects.get(pk=acme.member.pk))) == []


def test_forty_connections_of_one_server_are_one_thing(acme: House, rival: House, signed_in: SignedIn) -> None:
    for count in range(40):
        acme.connection(f"Orders {count:02}", f"https://mcp.example.com/{count}?key=s3cret", **AWAY)
    acme.connection("Elsewhere", "https://other.example.com/mcp", **AWAY)
    rival.connection("Theirs", "https://mcp.example.com/mcp", **AWAY)
    client = signed_in(acme.admin)
    assert titles(client) == ["Elsewhere", "40 connections to mcp.example.com"]
    text = page(client)
    assert "Orders 00, Orders 01, Orders 02 and 37 more." in text
    assert "s3cret" not in text
    assert number(client) == 2
    back = Connection.objects.filter(name__startswith="Orders").exclude(name="Orders 07")
    back.update(reachability_state="reachable")
    assert titles(client) == ["Elsewhere", "Orders 07"]


def test_many_calls_of_one_tool_take_four_rows_and_are_each_counted(
    shop: Shop, acme: House, signed_in: SignedIn
) -> None:
    ask(shop, 6)
    client = signed_in(acme.admin)
    assert titles(client) == ["orders__echo"] * 3 + ["3 more calls of orders__echo"]
    assert number(client) == 6


def test_an_approval_is_decided_in_place_and_asks_first(shop: Shop, acme: House, signed_in: SignedIn) -> None:
    ask(shop, text="EUR 1,200")
    call, client = shop.row, signed_in(acme.admin)
    assert "EUR 1,200" not in page(client)
    assert not AuditEvent.objects.filter(action="call.read").exists()
    asked = page(client, f"{INBOX}?ask=approval:{call.pk}")
    assert '{"text":"EUR 1,200"}' in asked
    assert AuditEvent.objects.filter(action="call.read", object_id=str(call.pk)).count() == 1
    call.refresh_from_db()
    assert call.state == "awaiting_approval"
    answer = client.post(f"/admin/tools/call/{call.pk}/approve/", {"from": "inbox"})
    assert (answer.status_code, answer["Location"]) == (302, INBOX)
    assert "Approved: the call is on its way." in page(client)
    assert "Nothing waits for you." in page(client)


def test_what_does_not_fit_on_three_lines_is_decided_on_its_own_page(
    shop: Shop, acme: House, signed_in: SignedIn
) -> None:
    ask(shop, text="x" * 300)
    call, client = shop.row, signed_in(acme.admin)
    answer = client.get(f"{INBOX}?ask=approval:{call.pk}")
    assert answer["Location"] == f"/admin/tools/call/{call.pk}/change/"
    Call.objects.all().delete()
    ask(shop)
    shop.set(enabled=False)
    assert client.get(f"{INBOX}?ask=approval:{shop.row.pk}")["Location"].endswith(f"{shop.row.pk}/change/")


def test_a_thing_that_is_done_is_said_to_be(shop: Shop, acme: House, rival: House, signed_in: SignedIn) -> None:
    ask(shop)
    key = f"approval:{shop.row.pk}"
    stranger, client = signed_in(rival.admin), signed_in(acme.admin)
    client.post(f"/admin/tools/call/{shop.row.pk}/refuse/", {"from": "inbox"})
    for who, name in ((client, key), (stranger, key), (stranger, "approval:x"), (client, "nothing:x"), (client, "\0")):
        answer = who.get(INBOX, {"ask": name}, follow=True)
        assert "That is done already, or was never there." in answer.content.decode(), name
        answer = who.post("/admin/inbox/assign/", {"key": name, "member": "me"}, follow=True)
        assert "That is done already, or was never there." in answer.content.decode(), name
    assert not Handling.objects.exists()


def test_a_thing_is_taken_given_and_given_back(acme: House, signed_in: SignedIn) -> None:
    bob = User.objects.create_user("bob@acme.example", "bob@acme.example", "x")
    his = Membership.objects.create(user=bob, tenant=acme.tenant, role=Role.ADMIN)
    acme.connection("Wiki", **AWAY)
    ann, of_bob = signed_in(acme.admin), signed_in(bob)
    [key] = keys(ann)

    def give(to: str) -> None:
        assert ann.post("/admin/inbox/assign/", {"key": key, "member": to}).status_code == 302

    give("me")
    assert (number(ann), number(of_bob)) == (1, 0)
    assert titles(of_bob) == []
    assert titles(of_bob, f"{INBOX}?whose=others") == ["Wiki"]
    assert "admin@acme.example has it" in page(of_bob, f"{INBOX}?whose=others")
    assert "bob@acme.example" in page(ann, f"{INBOX}?give={key}")
    give(str(his.pk))
    assert (number(ann), number(of_bob)) == (0, 1)
    give("")
    assert (number(ann), number(of_bob)) == (1, 1)
    events = AuditEvent.objects.filter(action__startswith="inbox.").order_by("at")
    assert list(events.values_list("action", flat=True)) == ["inbox.assigned", "inbox.assigned", "inbox.given_back"]
    give(str(his.pk))
    his.role = Role.MEMBER
    his.save()
    assert number(ann) == 1  # who may no longer do it does not have it
    his.delete()
    assert not Handling.objects.exists()


def test_nothing_is_given_to_somebody_elses_people(acme: House, rival: House, signed_in: SignedIn) -> None:
    acme.connection("Wiki", **AWAY)
    rival.connection("Wiki", **AWAY)
    client = signed_in(acme.admin)
    [key], [theirs] = keys(client), keys(signed_in(rival.admin))
    strangers = [rival.membership(rival.admin), acme.membership(acme.member)]
    for member in strangers:
        assert client.post("/admin/inbox/assign/", {"key": key, "member": str(member.pk)}).status_code == 404
    assert client.post("/admin/inbox/assign/", {"key": theirs, "member": "me"}, follow=True).status_code == 200
    assert not Handling.objects.exists()


def test_who_had_it_is_forgotten_once_it_is_done(acme: House, signed_in: SignedIn) -> None:
    wiki = acme.connection("Wiki", **AWAY)
    client = signed_in(acme.admin)
    [key] = keys(client)
    client.post("/admin/inbox/assign/", {"key": key, "member": "me"})
    tasks.dispatch_bulletins()
    assert Handling.objects.exists()
    Connection.objects.filter(pk=wiki.pk).update(**REACHED)
    tasks.dispatch_bulletins()
    assert not Handling.objects.exists()


def test_the_count_keeps_nobody_signed_in(acme: House, signed_in: SignedIn, settings: Any) -> None:
    client = signed_in(acme.admin)
    settings.SESSION_COOKIE_AGE = 24 * 3600  # so that the session is due to be renewed
    assert "sessionid" not in client.get("/admin/inbox/count/").cookies
    assert "sessionid" in client.get(INBOX).cookies


def test_the_page_asks_little_however_much_waits(
    acme: House, signed_in: SignedIn, django_assert_max_num_queries: Any
) -> None:
    for count in range(120):
        acme.connection(f"Orders {count:03}", f"https://mcp-{count}.example.com/mcp", **AWAY)
    noticed(acme.connection("Calendar", **DEAD))
    acme.connection("Billing", tools_state="changes_to_review")
    client = signed_in(acme.admin)
    with django_assert_max_num_queries(19):
        answer = client.get(INBOX)
    assert len(answer.content) < 100_000
    assert "Inbox (99+)" in answer.content.decode()
    assert [len(titles(client, f"{INBOX}?page={number}")) for number in (1, 2, 3, 4)] == [50, 50, 22, 0]

"""Making an ended call again: a new call of the same assignment, as whoever may decide about its calls wishes."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Credential, Tenant, User
from tests.conftest import House
from tests.tools.admin.test_calls import said, text_of, url
from tests.tools.conftest import Shop
from tools.calls import life, offers
from tools.models import AccessToken, Assignment, Call, Consent, OwnerNotice, Tool

SignedIn = Callable[[User | None], Client]


@pytest.fixture
def ended(shop: Shop) -> Call:
    """A call that has succeeded."""
    assert shop.call("echo", {"text": "x"}).status_code == 200
    return shop.row


def press_of(page: str) -> str:
    return re.findall(r'name="press" value="([0-9a-f-]+)"', page)[0]


def reached(shop: Shop) -> list[object]:
    """The arguments of each call that has reached the server."""
    return [one.message["params"]["arguments"] for one in shop.server.requests if one.rpc_method == "tools/call"]


def test_an_ended_call_is_made_again_as_a_new_one(ended: Call, shop: Shop, acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    page = text_of(client, url(ended))
    assert "may do a second time" in page
    assert "This is the new call" in said(client, url(ended, "again"), press=press_of(page))
    new = Call.objects.exclude(pk=ended.pk).get()
    assert (new.state, new.assignment, new.token) == ("queued", ended.assignment, ended.token)
    life.resume(new.pk)
    assert reached(shop) == [{"text": "x"}] * 2
    assert Call.objects.get(pk=new.pk).state == "succeeded"
    shown = text_of(client, url(new))
    assert f'Made again by</dt><dd class="breakable">{acme.admin.get_username()}' in shown
    assert url(ended) in shown
    assert "Made again by" not in text_of(client, url(ended))
    event = AuditEvent.objects.get(action="call.made_again")
    assert (event.object_id, event.data) == (str(new.pk), {"call": str(ended.pk)})


def test_pressed_twice_it_is_one_call(ended: Call, acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    press = press_of(text_of(client, url(ended)))
    for _ in range(2):
        assert "This is the new call" in said(client, url(ended, "again"), press=press)
    assert Call.objects.count() == 2
    assert AuditEvent.objects.filter(action="call.made_again").count() == 1
    said(client, url(ended, "again"), press=press_of(text_of(client, url(ended))))
    assert Call.objects.count() == 3, "another look at the page is another wish"


def test_only_an_ended_call_and_only_by_its_button(ended: Call, acme: House, shop: Shop, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    assert "Nothing was sent" in said(client, url(ended, "again"))
    assert "Nothing was sent" in said(client, url(ended, "again"), press="x")
    shop.set_tool("echo", policy="ask")
    shop.call("echo", {"text": "y"}, headers={"Prefer": "wait=0"})
    waiting = Call.objects.exclude(pk=ended.pk).get()
    assert "Make it again" not in text_of(client, url(waiting))
    assert "Nothing was sent" in said(client, url(waiting, "again"), press=str(uuid4()))
    assert Call.objects.count() == 2
    said(client, url(ended, "again"), press=str(uuid4()))
    assert Call.objects.filter(state="awaiting_approval").count() == 2, "what is asked for is asked for again"


def test_who_only_reads_is_offered_nothing(ended: Call, acme: House, rival: House, signed_in: SignedIn) -> None:
    assert "Make it again" in text_of(signed_in(acme.admin), url(ended))
    assert "Make it again" not in text_of(signed_in(acme.auditor), url(ended))
    for person, status in ((acme.auditor, 403), (acme.member, 404), (rival.admin, 404)):
        answer = signed_in(person).post(url(ended, "again"), {"press": str(uuid4())})
        assert answer.status_code == status, person
    assert Call.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda: AccessToken.objects.all().delete(), "with which it was made is gone"),
        (lambda: [token.revoke() for token in AccessToken.objects.all()], "with which it was made is gone"),
        (lambda: Assignment.objects.update(enabled=False), "Nothing was sent"),
        (lambda: Call.objects.update(sealed_arguments=b"v1.broken"), "Nothing was sent"),
        (lambda: Tenant.objects.get(name="acme").connections.update(enabled=False), "Nothing was sent"),
    ],
    ids=["no token", "revoked", "disabled", "broken seal", "connection disabled"],
)
def test_what_would_refuse_its_program_refuses_this(
    ended: Call, acme: House, signed_in: SignedIn, change: Callable[[], object], sentence: str
) -> None:
    change()
    page = said(signed_in(acme.admin), url(ended, "again"), press=str(uuid4()))
    assert "Nothing was sent" in page
    assert sentence in page
    assert Call.objects.count() == 1


@pytest.mark.parametrize("change", ["server", "definition", "tool"])
def test_the_arguments_go_nowhere_else_than_those_of_the_first_call(
    ended: Call, shop: Shop, acme: House, signed_in: SignedIn, change: str
) -> None:
    if change == "server":
        shop.set(server_url="https://8.8.8.8/mcp")
    elif change == "definition":
        shop.set_tool("echo", digest="e" * 64, approved_digest="e" * 64)
    else:  # another connection with the same name has another tool of this name
        Tool.objects.all().delete()
        now = timezone.now()
        Tool.objects.create(
            connection=shop.connection, name="echo", public_name="orders__echo", definition={"name": "echo"},
            approved_definition={"name": "echo"}, digest="e" * 64, approved_digest="e" * 64, approved_by="ada",
            approved_at=now,
        )  # fmt: skip
        offers.forget()
    page = said(signed_in(acme.admin), url(ended, "again"), press=str(uuid4()))
    assert "is another one since" in page
    assert Call.objects.count() == 1
    assert reached(shop) == [{"text": "x"}]


def test_nobody_but_the_owner_makes_a_call_again_that_acts_as_the_owner(
    ended: Call, shop: Shop, acme: House, signed_in: SignedIn
) -> None:
    shop.set(authorization="api_key", sharing="personal")
    Assignment.objects.update(owner=acme.member)
    page = said(signed_in(acme.admin), url(ended, "again"), press=str(uuid4()))
    assert f"only {acme.member.get_username()} may do this" in page
    assert Call.objects.count() == 1


def test_an_owner_who_has_consented_is_told(ended: Call, shop: Shop, acme: House, signed_in: SignedIn) -> None:
    own = Credential(connection=shop.connection, owner=acme.member, kind="api_key")  # personal a moment ago
    own.set("k", by=acme.member)
    Assignment.objects.update(owner=acme.member)
    consent = {"owner": acme.membership(acme.member), "person": acme.membership(acme.admin)}
    Consent.objects.create(assignment=ended.assignment, **consent)
    assert "This is the new call" in said(signed_in(acme.admin), url(ended, "again"), press=str(uuid4()))
    assert "made a call of orders__echo again" in OwnerNotice.objects.get(owner=acme.member).sentence

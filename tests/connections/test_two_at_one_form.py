"""Two admins have the same page open: who saves second reads who was quicker, and what the first saved stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client

from connections.models import Membership, Tenant, User
from tests.conftest import House
from tests.connections.estate import Estate
from tests.forms import shown_by
from tools.models import Assignment, Tool

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
REFUSED = "Nothing of yours was saved."


def page(row: Model) -> str:
    return f"/admin/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/"


@pytest.fixture
def tools(estate: Estate) -> list[Tool]:
    """Three tools that may be chosen."""
    more = [
        Tool.objects.create(connection=estate.connection, name=name, public_name=f"orders__{name}", definition={})
        for name in ("a", "b")
    ]
    return [estate.tool, *more]


def test_neither_of_two_admins_takes_the_others_tools_from_an_assignment(
    acme: House, estate: Estate, tools: list[Tool], signed_in: SignedIn
) -> None:
    first, second = signed_in(acme.admin), signed_in(acme.admin)
    forms = [shown_by(browser.get(page(estate.assignment))) for browser in (first, second)]
    assert first.post(page(estate.assignment), forms[0] | {"tools": [str(tools[0].pk)]}).status_code == 302
    late = second.post(page(estate.assignment), forms[1] | {"name": "Typed", "tools": [str(tools[1].pk)]})
    text = late.content.decode()
    assert "admin@acme.example was quicker and changed “Chosen tools”" in text
    assert REFUSED in text
    assert set(estate.assignment.tools.all()) == {tools[0]}
    again = shown_by(late)
    assert again["name"] == "Typed"
    assert second.post(page(estate.assignment), again | {"tools": [str(tool.pk) for tool in tools]}).status_code == 302
    estate.assignment.refresh_from_db()
    assert (estate.assignment.name, set(estate.assignment.tools.all())) == ("Typed", set(tools))


def test_what_nobody_touched_is_shown_as_it_is_stored_now(
    acme: House, estate: Estate, tools: list[Tool], signed_in: SignedIn
) -> None:
    browser = signed_in(acme.admin)
    form = shown_by(browser.get(page(estate.assignment)))
    estate.assignment.tools.set(tools)
    Assignment.objects.filter(pk=estate.assignment.pk).update(instructions="Mind the step.", enabled=False)
    again = shown_by(browser.post(page(estate.assignment), form | {"name": "Typed"}))
    assert (again["name"], again["instructions"], "enabled" in again) == ("Typed", "Mind the step.", False)
    assert {str(pk) for pk in again["tools"]} == {str(tool.pk) for tool in tools}
    assert browser.post(page(estate.assignment), again).status_code == 302
    estate.assignment.refresh_from_db()
    assert (estate.assignment.name, estate.assignment.enabled) == ("Typed", False)
    assert estate.assignment.tools.count() == len(tools)


def test_a_tool_that_the_server_does_not_offer_at_the_moment_stays_chosen(
    acme: House, estate: Estate, tools: list[Tool], signed_in: SignedIn
) -> None:
    browser = signed_in(acme.admin)
    estate.assignment.tools.set(tools)
    form = shown_by(browser.get(page(estate.assignment)))
    Tool.objects.filter(pk=tools[0].pk).update(gone_at="2026-01-01T00:00Z")
    assert browser.post(page(estate.assignment), form | {"name": "Renamed"}).status_code == 302
    assert estate.assignment.tools.count() == len(tools)


@pytest.mark.parametrize(
    ("column", "value", "label"),
    [("retention_days", 3, "Days that calls are kept"), ("webhook_url", "https://8.8.8.8/hook", "Webhook URL")],
)
def test_an_organizations_settings_are_not_saved_over(
    acme: House, signed_in: SignedIn, column: str, value: Any, label: str
) -> None:
    browser = signed_in(acme.admin)
    form = shown_by(browser.get(page(acme.tenant)))
    Tenant.objects.filter(pk=acme.tenant.pk).update(**{column: value})
    text = browser.post(page(acme.tenant), form | {"name": "Acme Inc."}).content.decode()
    assert f"Somebody was quicker and changed “{label}”" in text
    assert "Acme Inc." in text
    acme.tenant.refresh_from_db()
    assert (acme.tenant.name, str(getattr(acme.tenant, column))) == ("acme", str(value))


def test_a_secret_that_was_made_while_the_form_was_open_stays(acme: House, signed_in: SignedIn) -> None:
    Tenant.objects.update(webhook_url="https://8.8.8.8/hook")
    browser = signed_in(acme.admin)
    form = shown_by(browser.get(page(acme.tenant)))
    secret = Tenant.objects.get().make_webhook_secret()
    assert browser.post(page(acme.tenant), form | {"name": "Acme Inc."}).status_code == 302
    assert (Tenant.objects.get().name, Tenant.objects.get().webhook_secret()) == ("Acme Inc.", secret)


def test_another_receiver_gets_another_secret_which_is_shown(acme: House, signed_in: SignedIn) -> None:
    Tenant.objects.update(webhook_url="https://8.8.8.8/hook")
    secret = Tenant.objects.get().make_webhook_secret()
    browser = signed_in(acme.admin)
    form = shown_by(browser.get(page(acme.tenant)))
    moved = browser.post(page(acme.tenant), form | {"webhook_url": "https://8.8.4.4/hook"}).content.decode()
    now = Tenant.objects.get().webhook_secret()
    assert now in moved
    assert now != secret


def test_a_role_that_was_changed_meanwhile_is_not_changed_back(acme: House, signed_in: SignedIn) -> None:
    browser, row = signed_in(acme.admin), acme.membership(acme.member)
    form = shown_by(browser.get(page(row)))
    Membership.objects.filter(pk=row.pk).update(role="auditor")
    assert REFUSED in browser.post(page(row), form | {"role": "admin"}).content.decode()
    row.refresh_from_db()
    assert row.role == "auditor"


def test_a_person_who_was_deactivated_meanwhile_stays_so(acme: House, superuser: User, signed_in: SignedIn) -> None:
    browser = signed_in(superuser)
    form = shown_by(browser.get(page(acme.member)))
    User.objects.filter(pk=acme.member.pk).update(is_active=False)
    answer = browser.post(page(acme.member), form | {"first_name": "Ann"})
    assert REFUSED in answer.content.decode()
    assert acme.member.password not in answer.content.decode()
    acme.member.refresh_from_db()
    assert (acme.member.is_active, acme.member.first_name) == (False, "")


def test_a_new_password_does_not_undo_what_happened_while_its_hash_was_made(acme: House) -> None:
    person = User.objects.get(pk=acme.member.pk)
    User.objects.filter(pk=person.pk).update(is_active=False, is_reviewer=False, email="new@acme.example")
    person.set_password("another correct horse")
    person.save()
    now = User.objects.get(pk=person.pk)
    assert (now.is_active, now.email, now.check_password("another correct horse")) == (False, "new@acme.example", True)


def test_a_tools_pace_is_not_saved_over(acme: House, tools: list[Tool], signed_in: SignedIn) -> None:
    browser, tool = signed_in(acme.admin), tools[0]
    shown = browser.get(page(tool)).context["placement"]["shown"].value()
    Tool.objects.filter(pk=tool.pk).update(call_timeout=7, policy="deny")
    where = page(tool).replace("/change/", "/placement/")
    sent = {"placement": "queue", "idle_timeout": "", "call_timeout": "", "shown": shown}
    assert "changed “Call timeout”" in browser.post(where, sent).content.decode()
    shown = browser.get(page(tool)).context["placement"]["shown"].value()
    assert browser.post(where, sent | {"call_timeout": "9", "shown": shown}).status_code == 302
    tool.refresh_from_db()
    assert (tool.placement, tool.call_timeout, tool.policy) == ("queue", 9, "deny")


@pytest.mark.parametrize("shown", ["[]", "7", "{", '{"name": 1}', "null", '{"nothing": "x"}'])
def test_marks_that_somebody_made_up_break_nothing(
    acme: House, estate: Estate, signed_in: SignedIn, shown: str
) -> None:
    browser = signed_in(acme.admin)
    form = shown_by(browser.get(page(estate.assignment)))
    assert browser.post(page(estate.assignment), form | {"shown": shown}).status_code in {200, 302}

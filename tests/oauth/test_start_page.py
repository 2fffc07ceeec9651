"""The start page says what needs a person, and nothing of what is not theirs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections.models import Connection, Notice, User
from oauth import tasks
from tests.conftest import House

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
REACHED = {"reachability_state": "reachable", "tools_state": "in_sync"}
READY = {"authorization": "oauth", "credential_state": "ready", **REACHED}
DEAD = {
    "authorization": "oauth", "credential_state": "refused", "credential_reason": "sign_in_revoked",
    "credential_sentence": "The provider no longer accepts the sign-in.", **REACHED,
}  # fmt: skip


def noticed(connection: Connection, reason: str = "sign_in_revoked", owner: User | None = None, **more: Any) -> Notice:
    return Notice.objects.create(connection=connection, owner=owner, reason=reason, sentence=f"Told: {reason}.", **more)


def start(client: Client) -> dict[str, Any]:
    """What the card on the start page was given, and the page itself."""
    answer = client.get("/admin/")
    assert answer.status_code == 200
    return {"text": answer.content.decode(), "items": answer.context["items"], "more": answer.context["more"]}


def shown(client: Client) -> list[tuple[str, str]]:
    return [(item.connection.name, item.word) for item in start(client)["items"]]


def test_when_all_is_well_it_says_so_with_counts(acme: House, signed_in: SignedIn) -> None:
    acme.connection("Orders", **READY)
    acme.connection("Stock", **REACHED)
    acme.connection("Old", enabled=False)
    text = start(signed_in(acme.admin))["text"]
    assert "All connections work" in text
    assert "2 connected, 1 disabled" in text


def test_checks_that_are_overdue_are_said_to_whose_they_are(acme: House, rival: House, signed_in: SignedIn) -> None:
    acme.connection("Orders", **READY)
    acme.connection("Stock", **READY, next_probe_at=timezone.now() - timedelta(minutes=9))
    acme.connection("Old", enabled=False, next_probe_at=timezone.now() - timedelta(minutes=90))
    rival.connection("Theirs", **READY)
    text = start(signed_in(acme.admin))["text"]
    assert "The check of one connection is overdue: it should have begun 9 minutes ago." in text
    assert "All connections work" not in text
    assert "All connections work" in start(signed_in(rival.admin))["text"]
    Connection.objects.filter(name="Orders").update(next_probe_at=timezone.now() - timedelta(minutes=20))
    text = start(signed_in(acme.admin))["text"]
    assert "The checks of 2 connections are overdue: the oldest should have begun 20 minutes ago." in text


def test_a_house_without_connections_is_told_nothing(acme: House, signed_in: SignedIn) -> None:
    assert "attention-heading" not in start(signed_in(acme.admin))["text"]


def test_what_does_not_work_is_listed_with_its_next_step(acme: House, signed_in: SignedIn) -> None:
    acme.connection("Orders", reachability_state="unreachable", reachability_reason="connect_timeout")
    acme.connection("Stock", reachability_state="reachable", tools_state="changes_to_review",
                    tools_reason="tools_to_review", tools_sentence="2 tools wait.")  # fmt: skip
    acme.connection("Fine", **READY)
    client = signed_in(acme.admin)
    text = start(client)["text"]
    assert shown(client) == [("Orders", "Unreachable"), ("Stock", "Action required")]
    assert "no firewall keeps us out" in text
    assert "2 tools wait." in text
    assert f"/admin/connections/connection/{Connection.objects.get(name='Orders').pk}/change/" in text


def test_a_dead_sign_in_is_said_once_though_its_connection_needs_action_too(acme: House, signed_in: SignedIn) -> None:
    noticed(acme.connection("Orders", **DEAD))
    assert shown(signed_in(acme.admin)) == [("Orders", "Ended")]


def test_a_sign_in_that_ends_soon_is_listed_though_its_connection_works(acme: House, signed_in: SignedIn) -> None:
    noticed(acme.connection("Orders", **READY | {"credential_state": "expiring"}), "sign_in_ends")
    assert shown(signed_in(acme.admin)) == [("Orders", "Ends soon")]


def test_what_is_resolved_or_disabled_or_no_oauth_any_more_needs_nobody(acme: House, signed_in: SignedIn) -> None:
    noticed(acme.connection("Orders", **READY))
    Notice.objects.resolve(Notice.objects.get().created_at)
    noticed(acme.connection("Off", **DEAD | {"enabled": False}))
    noticed(acme.connection("Key", **READY | {"authorization": "api_key"}))
    client = signed_in(acme.admin)
    assert shown(client) == []
    assert "All connections work" in start(client)["text"]


def test_a_member_sees_of_personal_sign_ins_only_their_own(
    acme: House, rival: House, signed_in: SignedIn, reviewer: User, superuser: User
) -> None:
    connection = acme.connection("Orders", sharing="personal", **READY)
    noticed(connection, owner=acme.member)
    noticed(connection, owner=acme.auditor)
    noticed(connection, owner=rival.member)  # has left acme
    assert len(shown(signed_in(acme.member))) == 1
    mine = start(signed_in(acme.member))["text"]
    assert "auditor@acme" not in mine
    assert "Press Sign in again" in mine
    for person in (acme.admin, acme.auditor, reviewer, superuser):
        assert len(shown(signed_in(person))) == 2, person
    assert "Ask member@acme.example to sign in again." in start(signed_in(acme.admin))["text"]


def test_the_rival_reads_nothing_of_it(acme: House, rival: House, signed_in: SignedIn) -> None:
    noticed(acme.connection("Acme orders", **DEAD))
    acme.connection("Acme stock", reachability_state="unreachable")
    assert len(shown(signed_in(acme.admin))) == 2
    stranger = start(signed_in(rival.admin))
    assert stranger["items"] == []
    assert "Acme" not in stranger["text"]


def test_reviewers_see_every_organizations_and_whose_it_is(
    acme: House, rival: House, signed_in: SignedIn, reviewer: User
) -> None:
    noticed(acme.connection("Orders", **DEAD))
    rival.connection("Stock", reachability_state="unreachable")
    page = start(signed_in(reviewer))
    assert [item.connection.tenant.name for item in page["items"]] == ["acme", "rival"]
    assert "rival (rival)" in page["text"]  # staff are shown slugs, too


def test_twenty_are_shown_and_the_rest_counted(
    acme: House, signed_in: SignedIn, django_assert_max_num_queries: Any
) -> None:
    for number in range(15):
        noticed(acme.connection(f"Dead {number}", **DEAD))
    for number in range(12):
        acme.connection(f"Far {number}", reachability_state="unreachable")
    client = signed_in(acme.admin)
    with django_assert_max_num_queries(15):
        page = start(client)
    assert (len(page["items"]), page["more"]) == (20, 7)
    assert "and 7 more in" in page["text"]
    assert page["text"].count("Far ") == 5


def test_names_are_escaped(acme: House, signed_in: SignedIn) -> None:
    noticed(acme.connection("<script>x</script>", **DEAD))
    assert "<script>x" not in start(signed_in(acme.admin))["text"]


def test_what_nobody_can_do_anything_about_is_resolved_by_the_hour(acme: House, rival: House) -> None:
    kept = [noticed(acme.connection("Orders", **DEAD)), noticed(acme.connection("Own", **DEAD), owner=acme.member)]
    noticed(acme.connection("Key", **DEAD | {"authorization": "api_key"}))
    noticed(acme.connection("Left", **DEAD), owner=rival.member, deliver_at=kept[0].created_at)
    tasks.forget_old()
    assert set(Notice.objects.open()) == set(kept)

"""The pages of connections: the list, the form behind its page, the report that a script polls."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html import unescape
from itertools import product
from threading import Barrier
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.utils import timezone

from connections.forms import NAME_TAKEN
from connections.models import AuditEvent, Connection, Credential, User
from connections.states import CredentialState, Headline, ReachabilityState, ToolsState, shows
from tests.conftest import House
from tools.models import Probe, Tool

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
LIST = "/admin/connections/connection/"
ADD = f"{LIST}add/"
SECRET = "marker-77aa"
DATA = {"name": "Orders", "server_url": "https://8.8.8.8/mcp", "authorization": "none", "enabled": "on"}


def page_of(connection: Connection) -> str:
    return f"{LIST}{connection.pk}/change/"


@pytest.mark.smoke
def test_an_admin_adds_a_connection_and_lands_on_its_page(acme: House, signed_in: SignedIn) -> None:
    answer = signed_in(acme.admin).post(ADD, DATA)
    connection = acme.tenant.connections.get()
    assert answer.headers["Location"] == page_of(connection)
    event = AuditEvent.objects.get()
    assert (event.action, event.actor, event.tenant) == ("connection.created", "admin@acme.example", acme.tenant)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_save_one_name_at_once_one_wins_and_the_others_read_a_sentence(
    acme: House, signed_in: SignedIn
) -> None:
    browsers = [signed_in(acme.admin) for _ in range(4)]
    start = Barrier(len(browsers))

    def press(browser: Client) -> tuple[int, bool]:
        start.wait()
        try:
            answer = browser.post(ADD, DATA)
            return answer.status_code, NAME_TAKEN in answer.content.decode()
        finally:
            database.close()

    with ThreadPoolExecutor(len(browsers)) as pool:
        answers = sorted(pool.map(press, browsers))
    assert answers == [(200, True), (200, True), (200, True), (302, False)]
    assert acme.tenant.connections.count() == 1


def test_no_page_shows_a_secret_to_anybody(acme: House, superuser: User, reviewer: User, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    secrets = {"authorization": "headers", "headers": f"X-Key: {SECRET}", "extra_headers": f"X-Other: {SECRET}"}
    client.post(ADD, DATA | secrets)
    connection = acme.tenant.connections.get()
    assert connection.secret("headers") == {"X-Key": SECRET}
    refused = client.post(page_of(connection), DATA | secrets | {"server_url": "nonsense"}).content.decode()
    assert SECRET not in refused
    assert refused.count("Enter it again") == 2
    for user in (acme.admin, acme.member, superuser, reviewer):
        browser = signed_in(user)
        for path in (LIST, page_of(connection), f"{LIST}{connection.pk}/history/", f"{LIST}{connection.pk}/delete/"):
            text = browser.get(path).content.decode()
            assert SECRET not in text
            assert Credential.objects.all()[0].sealed not in text


def test_a_stored_secret_is_described_to_those_who_may_change_it(acme: House, signed_in: SignedIn) -> None:
    signed_in(acme.admin).post(ADD, DATA | {"authorization": "api_key", "api_key": SECRET})
    connection = acme.tenant.connections.get()
    page = signed_in(acme.admin).get(page_of(connection)).content.decode()
    assert "Set just now by admin@acme.example. Leave blank to keep it." in page
    assert 'name="remove_api_key"' in page


def test_members_and_reviewers_read_the_page_and_are_offered_no_button(
    acme: House, reviewer: User, signed_in: SignedIn
) -> None:
    connection = acme.connection()
    for user in (acme.member, acme.auditor, reviewer):
        text = signed_in(user).get(page_of(connection)).content.decode()
        assert "mcp.example.com" in text
        assert 'name="_save"' not in text
        assert "Check now" not in text
        assert "Delete" not in text
        assert signed_in(user).post(page_of(connection), DATA).status_code == 403


def test_check_now_asks_for_a_check_and_says_so(acme: House, signed_in: SignedIn) -> None:
    connection = acme.connection(next_probe_at="2100-01-01T00:00Z")
    answer = signed_in(acme.admin).post(f"{LIST}{connection.pk}/check/", follow=True)
    assert "is being checked" in answer.content.decode()
    connection.refresh_from_db()
    assert connection.next_probe_at <= timezone.now()


def test_a_disabled_connection_is_not_checked_and_the_page_says_why(acme: House, signed_in: SignedIn) -> None:
    connection = acme.connection(enabled=False, next_probe_at="2100-01-01T00:00Z")
    answer = signed_in(acme.admin).post(f"{LIST}{connection.pk}/check/", follow=True)
    assert "Enable it first" in answer.content.decode()
    connection.refresh_from_db()
    assert connection.next_probe_at.year == 2100


def test_the_list_says_what_to_do(acme: House, signed_in: SignedIn) -> None:
    acme.connection(
        reachability_state="reachable", authorization="api_key", credential_state="refused",
        credential_reason="unauthorized",
    )  # fmt: skip
    text = signed_in(acme.admin).get(LIST).content.decode()
    assert "Action required" in text
    assert "Check the API key or headers" in text


@pytest.mark.parametrize(("method", "field"), [("api_key", "id_api_key"), ("headers", "id_headers")])
def test_the_message_about_a_credential_leads_to_the_field_that_cures_it(
    acme: House, signed_in: SignedIn, method: str, field: str
) -> None:
    refused = {"credential_state": "refused", "credential_reason": "unauthorized", "reachability_state": "reachable"}
    row = acme.connection(authorization=method, **refused)
    page = signed_in(acme.admin).get(page_of(row)).content.decode()
    assert f'href="#{field}"' in page
    assert f'id="{field}"' in page
    assert f'href="#{field}"' not in signed_in(acme.auditor).get(page_of(row)).content.decode()
    row.set_credential_state(CredentialState.READY)
    assert f'href="#{field}"' not in signed_in(acme.admin).get(page_of(row)).content.decode()


def test_the_list_counts_tools_in_use_and_to_review(acme: House, signed_in: SignedIn) -> None:
    connection = acme.connection()
    now = timezone.now()
    for name, approved in (("a", "1"), ("b", "1"), ("c", "")):
        Tool.objects.create(
            connection=connection, name=name, public_name=name, definition={}, digest="1", approved_digest=approved,
            approved_definition={}, approved_at=now,
        )  # fmt: skip
    client = signed_in(acme.admin)
    page = unescape(client.get(LIST).content.decode())
    leads = {
        words: address for address, words in re.findall(r'<a href="(/admin/tools/tool/\?[^"]+)">([^<]+)</a>', page)
    }
    assert list(leads) == ["2 in use", "1 to review"]
    assert [row.name for row in client.get(leads["1 to review"]).context["cl"].result_list] == ["c"]
    assert len(client.get(leads["2 in use"]).context["cl"].result_list) == 2


def test_an_empty_list_says_how_to_begin(acme: House, signed_in: SignedIn) -> None:
    assert "No connections yet" in signed_in(acme.admin).get(LIST).content.decode()
    assert "Nothing matches" in signed_in(acme.admin).get(f"{LIST}?q=nothing").content.decode()


def test_the_filter_by_status_agrees_with_the_headline_in_every_state(acme: House) -> None:
    states = product([True, False], CredentialState, ReachabilityState, ToolsState)
    rows = [
        Connection(
            tenant=acme.tenant, name=f"{number}", slug=f"s{number}", server_url="https://8.8.8.8", enabled=enabled,
            credential_state=credential, reachability_state=reachability, tools_state=tools,
        )
        for number, (enabled, credential, reachability, tools) in enumerate(states)
    ]  # fmt: skip
    Connection.objects.bulk_create(rows)
    for word in Headline:
        shown = set(Connection.objects.filter(shows(word)).values_list("name", flat=True))
        assert shown == {row.name for row in Connection.objects.all() if row.headline == word}


def test_each_word_of_the_filter_says_how_many_there_are(acme: House, rival: House, signed_in: SignedIn) -> None:
    for name, states in (
        ("A", {"reachability_state": "unreachable"}), ("B", {"reachability_state": "unreachable"}),
        ("C", {"reachability_state": "reachable", "tools_state": "in_sync"}), ("D", {"enabled": False}),
    ):  # fmt: skip
        acme.connection(name, **states)
    rival.connection("Theirs", reachability_state="unreachable")
    counted = ("Needs attention (2)", "Unreachable (2)", "Connected (1)", "Disabled (1)", "Busy")
    for query, words in (
        ("", counted), ("?status=unreachable", counted), ("?status=unreachable&o=1", counted),
        # beside a search or another filter a number would count what these leave out
        ("?q=A", [word.partition(" (")[0] for word in counted]),
        ("?authorization__exact=none", [word.partition(" (")[0] for word in counted]),
    ):  # fmt: skip
        text = signed_in(acme.admin).get(LIST + query).content.decode()
        for word in words:
            assert f">{word}</a>" in text, (query, word)


def test_a_reviewer_filters_the_connections_of_all_houses(
    acme: House, rival: House, reviewer: User, signed_in: SignedIn
) -> None:
    acme.connection("Orders", era="modern")
    rival.connection("Stock", authorization="api_key", enabled=False)
    client = signed_in(reviewer)

    def names(query: str) -> set[str]:
        text = client.get(f"{LIST}?{query}").content.decode()
        return {name for name in ("Orders", "Stock") if f">{name} <span" in text}

    assert names("") == {"Orders", "Stock"}
    assert names(f"organization={rival.tenant.pk}") == {"Stock"}
    assert names("status=disabled") == {"Stock"}
    assert names("authorization__exact=api_key") == {"Stock"}
    assert names("era=modern") == {"Orders"}
    assert names("era=unknown") == {"Stock"}


def test_the_report_is_live_while_a_check_waits_or_runs(acme: House, signed_in: SignedIn) -> None:
    connection = acme.connection()
    client = signed_in(acme.admin)

    def report() -> Any:
        return client.get(f"/admin/tools/probe/report/{connection.pk}/").json()

    assert (report()["live"], report()["progress"]) == (True, "A check is about to start.")
    Connection.objects.update(next_probe_at=timezone.now() - timedelta(minutes=3))
    assert "no worker has taken it up" in report()["progress"]
    probe = Probe.objects.create(connection=connection)
    probe.add_stage("dns", "passed", "<b>found</b>", 3)
    probe.keep()
    assert (report()["live"], report()["progress"]) == (True, "A check is running.")
    assert report()["check"]["stages"][0]["sentence"] == "<b>found</b>"
    assert "<b>found</b>" not in client.get(page_of(connection)).content.decode()
    probe.finish(Probe.Outcome.PASSED)
    probe.keep()
    Connection.objects.update(next_probe_at="2100-01-01T00:00Z")
    assert (report()["live"], report()["progress"]) == (False, "")


def test_a_superuser_sees_the_organizations_names_and_an_admin_of_one_does_not(
    acme: House, superuser: User, signed_in: SignedIn
) -> None:
    acme.connection()
    assert "column-whose" in signed_in(superuser).get(LIST).content.decode()
    assert 'class="column-whose' not in signed_in(acme.admin).get(LIST).content.decode()
    assert "column-tenant" not in signed_in(acme.admin).get(LIST).content.decode()


def test_a_superuser_sees_no_part_of_a_password_hash(acme: House, superuser: User, signed_in: SignedIn) -> None:
    text = signed_in(superuser).get(f"/admin/connections/user/{acme.member.pk}/change/").content.decode()
    assert "Reset password" in text
    algorithm, salt, digest = acme.member.password.split("$")
    assert salt[:2] + "*" not in text
    assert digest[:6] not in text
    assert f"algorithm</strong>: {algorithm}" not in text

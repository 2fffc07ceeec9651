"""The History pages say in words what happened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from connections import audit
from connections.models import AuditEvent, Connection, Membership, Tenant, User
from connections.models.moves import MOST_KEPT
from connections.states import CredentialState, ReachabilityState
from tests.conftest import House
from tests.connections.estate import Estate, rows

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


def words(client: Client, path: str) -> str:
    return " ".join(unescape(strip_tags(client.get(path).content.decode().replace("<", " <"))).split())


def test_details_are_words_whatever_they_are(acme: House, estate: Estate, superuser: User, signed_in: SignedIn) -> None:
    details = {
        "reason": "too dear", "prefix": "duvo_abc", "count": 500, "shared": True, "fields": ["max_rate", "server_url"],
        "names": {"first": ["a", "b"]}, "nothing": None,
    }  # fmt: skip
    for model, row in rows(acme, estate).items():
        if model.__name__ != "AuditEvent":
            tenant = None if model is User else acme.tenant
            audit.record(
                acme.admin, f"{model._meta.model_name}.token_issued", row, tenant=tenant, outcome="x_y", **details
            )
            viewer = acme.admin if model.__name__ == "AccessToken" else superuser
            path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/{row.pk}/history/"
            told = words(signed_in(viewer), path)
            assert "Token issued (x y)" in told, path
            for detail in ("Reason: too dear", "Prefix: duvo_abc", "Count: 500", "Shared: yes", "Names: first: a, b"):
                assert f" {detail} " in f"{told} ", path
            assert "Nothing:" not in told


def test_fields_are_called_as_on_the_page(acme: House, estate: Estate, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    connection = f"/admin/connections/connection/{estate.connection.pk}"
    client.post(
        f"{connection}/change/", {"name": "Stock", "server_url": "https://8.8.8.8/mcp", "authorization": "none"}
    )
    told = words(client, f"{connection}/history/")
    assert "Changed server URL from" in told
    assert "to https://8.8.8.8/mcp" in told
    assert "Changed enabled from yes to no" in told
    tenant = Tenant.objects.get(pk=acme.tenant.pk)
    client.post(
        f"/admin/connections/tenant/{tenant.pk}/change/",
        {"name": "acme", "retention_days": "9", "decision_hours": "24"},
    )
    told = words(client, f"/admin/connections/tenant/{tenant.pk}/history/")
    assert "Changed days that calls are kept from 30 to 9" in told
    member = Membership.objects.get(user=acme.member)
    client.post(f"/admin/connections/membership/{member.pk}/change/", {"role": "auditor"})
    assert "Changed role from Member to Auditor" in words(client, f"/admin/connections/membership/{member.pk}/history/")


def _saved(client: Client, connection: Connection, **changed: str) -> None:
    data = {"name": connection.name, "server_url": connection.server_url, "enabled": "on", "authorization": "api_key"}
    answer = client.post(f"/admin/connections/connection/{connection.pk}/change/", data | changed)
    assert answer.status_code == 302, answer.context["adminform"].form.errors


def test_changes_are_sentences_with_before_and_after_and_no_secret(acme: House, signed_in: SignedIn) -> None:
    orders = acme.connection("Orders", url="https://8.8.8.8/mcp?key=hunter2secret", authorization="api_key")
    client, page = signed_in(acme.admin), f"/admin/connections/connection/{orders.pk}/history/"
    address = {"server_url": "https://8.8.8.8/v2"}
    _saved(client, orders, name="Orders EU", call_timeout="60", api_key="first-secret-key", **address)
    told = words(client, page)
    assert "admin@acme.example Renamed Orders to Orders EU" in told
    assert "Changed call timeout from 300 to 60 s" in told
    assert "Changed server URL from https://8.8.8.8/mcp to https://8.8.8.8/v2" in told
    assert "Set API key" in told
    _saved(client, orders, name="Orders EU", call_timeout="60", api_key="second-secret-key", **address)
    assert "Replaced API key" in words(client, page)
    kept = str(list(AuditEvent.objects.values_list("data", flat=True))) + words(client, page)
    assert not [secret for secret in ("first-secret", "second-secret", "hunter2") if secret in kept]


def test_what_may_be_a_secret_is_only_said_to_be_set_replaced_or_removed(acme: House, signed_in: SignedIn) -> None:
    client, tenant = signed_in(acme.admin), acme.tenant
    nightly = acme.assignment("Nightly")
    for number, sent in enumerate(("say hunter2", "say hunter3", "")):
        data = {"name": "Nightly", "instructions": sent, "enabled": "on", "scope": nightly.scope}
        assert client.post(f"/admin/tools/assignment/{nightly.pk}/change/", data).status_code == 302
        told = words(client, f"/admin/tools/assignment/{nightly.pk}/history/")
        assert ("Set instructions", "Replaced instructions", "Removed instructions")[number] in told
    assert "hunter" not in str(list(tenant.audit_events.values_list("data", flat=True)))


def test_moves_of_the_states_are_told_with_reason_and_how_long_it_had_been_so(
    acme: House, rival: House, signed_in: SignedIn
) -> None:
    since = timezone.now() - timedelta(days=3, minutes=1)
    orders = acme.connection("Orders", reachability_state="reachable", reachability_since=since)
    orders.set_reachability(ReachabilityState.UNREACHABLE, "connect_timeout", "It did not accept the connection.")
    orders.set_reachability(ReachabilityState.UNREACHABLE, "dns_failed", "Another reason is no move.")
    assert orders.state_moves.count() == 1
    page = f"/admin/connections/connection/{orders.pk}/history/"
    told = words(signed_in(acme.member), page)
    assert "Reachability: Unreachable, after 3 days" in told
    assert "of “Reachable” Reason: It did not accept the connection." in told
    assert signed_in(rival.admin).get(page).status_code == 404
    assert not AuditEvent.objects.exists()


def test_a_connection_keeps_its_newest_moves_only(acme: House) -> None:
    orders, other = acme.connection("Orders"), acme.connection("Other")
    other.set_credential_state(CredentialState.MISSING)
    for number in range(MOST_KEPT + 3):
        orders.state_moves.note("tools", "in_sync", "failed", f"r{number}", "", timezone.now())
    assert orders.state_moves.count() == MOST_KEPT
    assert orders.state_moves.first().reason == f"r{MOST_KEPT + 2}"
    assert other.state_moves.count() == 1


def test_moves_of_settings_that_were_changed_meanwhile_are_not_told(acme: House) -> None:
    orders = acme.connection("Orders")
    Connection.objects.update(revision=orders.revision + 1)
    orders.set_reachability(ReachabilityState.UNREACHABLE, "connect_timeout")
    assert not orders.state_moves.exists()


def test_renewals_are_one_line_and_hide_nothing(acme: House, signed_in: SignedIn) -> None:
    orders = acme.connection("Orders")
    for _ in range(12):
        audit.record("system", "connection.token_renewed", orders, tenant=acme.tenant)
    audit.record(acme.admin, "connection.disabled", orders, tenant=acme.tenant)
    audit.record("system", "connection.token_renewed", orders, tenant=acme.tenant, outcome="invalid_grant")
    audit.record("system", "connection.token_renewed", orders, tenant=acme.tenant)
    told = words(signed_in(acme.admin), f"/admin/connections/connection/{orders.pk}/history/")
    assert "Renewed the sign-in 12 times" in told
    assert "Token renewed (invalid grant)" in told
    assert told.count("enewed") == 3


def test_history_is_filtered_by_person_kind_and_period(acme: House, signed_in: SignedIn) -> None:
    orders = acme.connection("Orders")
    audit.record(acme.admin, "connection.disabled", orders, tenant=acme.tenant)
    audit.record(acme.auditor, "connection.check_requested", orders, tenant=acme.tenant)
    audit.record("system", "connection.sign_in_ended", orders, tenant=acme.tenant)
    orders.set_reachability(ReachabilityState.REACHABLE)
    orders.state_moves.update(at=timezone.now() - timedelta(days=8))
    client, page = signed_in(acme.admin), f"/admin/connections/connection/{orders.pk}/history/"
    lines = {"Disabled": 0, "Check requested": 1, "Sign in ended": 2, "Reachability: ": 3}
    for query, seen in (
        ("", [0, 1, 2, 3]), ("who=admin@acme.example", [0]), ("kind=people", [0, 1]), ("kind=itself", [2]),
        ("kind=states", [3]), ("days=7", [0, 1, 2]), ("days=30", [0, 1, 2, 3]), ("kind=states&days=1", []),
        ("who=nobody&kind=x&days=999999999999", [0, 1, 2, 3]),
    ):  # fmt: skip
        table = words(client, f"{page}?{query}").partition("When Who What Details")[2]
        assert [number for line, number in lines.items() if line in table] == seen, query
    assert "Nothing matches." in words(client, f"{page}?kind=states&days=1")

"""The one form of connections: what it takes, what it says, and what it never shows or sends."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import ValidationError
from django.utils import timezone

from connections.forms import NAME_TAKEN, ConnectionForm
from connections.models import AuditEvent, Connection, Credential, Tenant
from duvo.celery import app as product
from tests.conftest import House

PUBLIC = "https://8.8.8.8/mcp"
DATA = {"name": "Orders", "server_url": PUBLIC, "authorization": "none", "enabled": True}
SECRET = "marker-5f1c"

pytestmark = pytest.mark.django_db


def filled(house: House, instance: Connection | None = None, **data: Any) -> ConnectionForm:
    start = ConnectionForm.data_of(instance) if instance else DATA
    return ConnectionForm({**start, **data}, instance=instance, tenant=house.tenant, user=house.admin)


def saved(house: House, instance: Connection | None = None, **data: Any) -> Connection:
    form = filled(house, instance, **data)
    assert form.is_valid(), form.errors
    return Connection.objects.get(pk=form.save().pk)


@pytest.mark.smoke
def test_a_connection_is_saved_with_its_defaults(acme: House) -> None:
    connection = saved(acme)
    assert (connection.tenant, connection.slug, connection.created_by) == (acme.tenant, "orders", acme.admin)
    assert (connection.connect_timeout, connection.max_concurrency, connection.era_choice) == (10, 50, "auto")
    assert (connection.credential_state, connection.reachability_state) == ("not_needed", "unknown")


def test_the_bounds_of_calls_are_kept_until_they_are_changed(acme: House) -> None:
    connection = saved(acme, max_concurrency=2000, max_rate=60, send_trace=True)
    connection = saved(acme, connection, name="Renamed")
    assert (connection.max_concurrency, connection.max_rate, connection.send_trace) == (2000, 60, True)
    connection = saved(acme, connection, max_rate="", send_trace=False)
    assert (connection.max_rate, connection.send_trace) == (None, False)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://8.8.8.8/mcp", "https://"),
        ("https://localhost/mcp", "localhost"),
        ("https://127.0.0.1/mcp", "private"),
        ("https://10.1.2.3/mcp", "private"),
        ("https://[::1]/mcp", "private"),
        ("https://169.254.169.254/latest", "private"),
        ("https://nobody.invalid/mcp", "does not exist"),
        ("https://ann:pw@8.8.8.8/mcp", "@"),
        ("https://8.8.8.8/mcp#tools", "#"),
        ("https://8.8.8.8:22/mcp", "Port 22"),
        ("npx -y @acme/mcp-server", "command"),
        ("uvx acme-mcp", "command"),
        ('{"mcpServers": {}}', "configuration"),
        ("8.8.8.8/mcp", "https://"),
        ("ftp://8.8.8.8/mcp", "https://"),
        ("https://8.8.8.8/m cp", "space"),
        ("", "required"),
    ],
)
def test_a_server_url_that_cannot_be_used_is_refused_with_a_sentence(acme: House, url: str, words: str) -> None:
    form = filled(acme, server_url=url)
    assert words in form.errors["server_url"][0]
    assert not Connection.objects.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Host: example.com", "cannot be set here"),
        ("content-length: 1", "cannot be set here"),
        ("Transfer-Encoding: chunked", "cannot be set here"),
        ("Mcp-Session-Id: 1", "cannot be set here"),
        ("MCP-Protocol-Version: 1", "cannot be set here"),
        ("Accept: text/html", "cannot be set here"),
        ("Cookie: a=b", "cannot be set here"),
        ("Proxy-Authorization: x", "cannot be set here"),
        ("X Key: 1", "letters, digits"),
        ("X-Kéy: 1", "letters, digits"),
        ("X-Key", "no colon"),
        (": 1", "no name"),
        ("X-Key:", "no value"),
        ("X-Key: 1\n continued", "starts with a space"),
        ("X-Key: 1\rX-Other: 2", "line break"),
        ("X-Key: a\x00b", "control character"),
        ("X-Key: naïve", "ASCII"),
        ("X-Key: 1\nx-key: 2", "twice"),
        ("X-Key: " + "v" * 5000, "longer than"),
        ("X" * 81 + ": 1", "longer than"),
        ("\n".join(f"X-{number}: 1" for number in range(21)), "at most 20"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_with_a_sentence(acme: House, text: str, words: str) -> None:
    form = filled(acme, authorization="headers", headers=text)
    assert words in form.errors["headers"][0]
    extra = filled(acme, extra_headers=text)
    assert words in extra.errors["extra_headers"][0]


def test_programs_may_give_headers_as_a_mapping_under_the_same_rules(acme: House) -> None:
    connection = saved(acme, authorization="headers", headers={"Authorization": "Basic abc", "X-Key": SECRET})
    assert dict(connection.request_headers()) == {"Authorization": "Basic abc", "X-Key": SECRET}
    assert "line break" in filled(acme, name="B", authorization="headers", headers={"X": "a\nb"}).errors["headers"][0]
    assert "not text" in filled(acme, name="B", authorization="headers", headers={"X": 1}).errors["headers"][0]


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        ({"authorization": "api_key", "api_key": "two words"}, "api_key", "no spaces"),
        ({"authorization": "api_key", "api_key": "käy"}, "api_key", "ASCII"),
        ({"authorization": "api_key", "api_key": "k", "api_key_header": "Host"}, "api_key_header", "cannot be set"),
        ({"authorization": "api_key", "api_key": "k", "api_key_header": "Authorization"}, "api_key_header", "blank"),
        ({"authorization": "api_key", "api_key": "k", "api_key_header": "X Key"}, "api_key_header", "letters"),
        ({"extra_headers": "Authorization: Basic x"}, "extra_headers", "Custom headers"),
        (
            {"authorization": "headers", "headers": "X-A: 1", "extra_headers": "x-a: 2"},
            "extra_headers",
            "set twice",
        ),
        (
            {"authorization": "api_key", "api_key": "k", "api_key_header": "X-A", "extra_headers": "x-a: 2"},
            "api_key_header",
            "set twice",
        ),
        ({"authorization": "telepathy"}, "authorization", "none of the choices"),
        ({"call_timeout": 3601}, "call_timeout", "3600"),
        ({"connect_timeout": 0}, "connect_timeout", "1"),
        ({"max_concurrency": 2001}, "max_concurrency", "2000"),
        ({"max_rate": 0}, "max_rate", "1"),
        ({"name": " "}, "name", "required"),
        ({"name": "n" * 81}, "name", "80"),
    ],
)
def test_other_bad_input_gets_a_sentence_at_its_field(
    acme: House, data: dict[str, Any], field: str, words: str
) -> None:
    assert words in filled(acme, **data).errors[field][0]


def test_a_pasted_bearer_prefix_is_dropped(acme: House) -> None:
    connection = saved(acme, authorization="api_key", api_key=f" Bearer {SECRET}\n")
    assert connection.request_headers() == [("Authorization", f"Bearer {SECRET}")]


def test_a_named_header_carries_the_key_as_it_is(acme: House) -> None:
    connection = saved(acme, authorization="api_key", api_key=SECRET, api_key_header="X-Api-Key")
    assert connection.request_headers() == [("X-Api-Key", SECRET)]


def test_a_name_is_taken_in_any_case_within_the_tenant_only(acme: House, rival: House) -> None:
    saved(acme)
    assert filled(acme, name=" oRDERS ").errors["name"] == [NAME_TAKEN]
    assert saved(rival, name="orders").tenant == rival.tenant


def test_the_loser_of_a_race_for_a_name_gets_the_same_sentence(acme: House) -> None:
    slower = filled(acme)
    assert slower.is_valid()
    saved(acme)
    with pytest.raises(ValidationError) as refusal:
        slower.save()
    assert refusal.value.message_dict == {"name": [NAME_TAKEN]}


def test_a_slug_is_made_once_and_is_unique(acme: House) -> None:
    first = saved(acme, name="Übergroße Bestellungen & Lager der Welt")
    second = saved(acme, name="Übergroße Bestellungen & Lager der Zeit")
    assert first.slug == "ubergrosse-bestellungen"
    assert second.slug == "ubergrosse-bestellunge-2"
    assert saved(acme, first, name="Stock").slug == first.slug
    assert saved(acme, name="订单").slug == "dingdan"


def test_a_blank_secret_means_keep(acme: House) -> None:
    connection = saved(acme, authorization="api_key", api_key=SECRET)
    changed = saved(acme, connection, name="Orders 2", api_key="")
    assert changed.secret("api_key") == SECRET
    assert changed.credential_state == "ready"


def test_a_stored_secret_is_named_with_its_age_and_author_but_never_shown(acme: House) -> None:
    connection = saved(acme, authorization="headers", headers=f"X-Key: {SECRET}")
    page = filled(acme, connection).as_p()
    assert "Set just now by admin@acme.example (X-Key). Leave blank to keep it." in page
    assert SECRET not in page


def test_a_secret_that_was_just_refused_is_not_shown_either(acme: House) -> None:
    form = filled(acme, authorization="headers", headers=f"X-Key: {SECRET}\nHost: {SECRET}", api_key=SECRET)
    assert not form.is_valid()
    assert SECRET not in form.as_p()


def test_a_secret_can_be_removed(acme: House) -> None:
    connection = saved(acme, authorization="api_key", api_key=SECRET)
    changed = saved(acme, connection, remove_api_key=True)
    assert changed.secret("api_key") is None
    assert (changed.credential_state, changed.credential_reason) == ("missing", "credential_missing")


def test_another_method_forgets_the_secret_of_the_one_before(acme: House) -> None:
    connection = saved(acme, authorization="api_key", api_key=SECRET, extra_headers="X-Env: test")
    changed = saved(acme, connection, authorization="none")
    assert changed.credential_state == "not_needed"
    assert [row.kind for row in Credential.objects.all()] == ["extra_headers"]


@pytest.mark.parametrize("url", ["https://1.1.1.1/mcp", "https://8.8.8.8:8443/mcp"])
def test_a_stored_secret_is_not_sent_to_another_server(acme: House, url: str) -> None:
    connection = saved(acme, authorization="api_key", api_key=SECRET, extra_headers="X-Env: test")
    form = filled(acme, connection, server_url=url)
    assert "8.8.8.8" in form.errors["api_key"][0]
    assert "8.8.8.8" in form.errors["extra_headers"][0]
    moved = saved(acme, connection, server_url=url, api_key="new", remove_extra_headers=True)
    assert moved.request_headers() == [("Authorization", "Bearer new")]


def test_another_path_on_the_same_server_keeps_the_secret(acme: House) -> None:
    connection = saved(acme, authorization="api_key", api_key=SECRET)
    assert saved(acme, connection, server_url=f"{PUBLIC}/v2").secret("api_key") == SECRET


def test_another_url_forgets_what_was_known_of_the_server(acme: House) -> None:
    connection = saved(acme)
    Connection.objects.update(era="legacy", server_name="Old", reachability_state="reachable", tools_state="in_sync")
    connection.refresh_from_db()
    same = saved(acme, connection, name="Orders 2")
    assert (same.era, same.reachability_state) == ("legacy", "reachable")
    moved = saved(acme, same, server_url="https://1.1.1.1/mcp")
    assert (moved.era, moved.server_name, moved.reachability_state, moved.tools_state) == (
        "", "", "unknown", "never_listed",
    )  # fmt: skip


def test_a_refused_credential_stays_refused_until_something_about_it_changes(acme: House) -> None:
    connection = saved(acme, authorization="api_key", api_key=SECRET)
    Connection.objects.update(credential_state="refused", credential_reason="unauthorized")
    connection.refresh_from_db()
    assert saved(acme, connection, name="Orders 2").credential_state == "refused"
    assert saved(acme, connection, api_key="another").credential_state == "ready"


def test_each_save_raises_the_revision_and_asks_for_a_check(
    acme: House, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        connection = saved(acme)
    assert len(callbacks) == 1
    Connection.objects.update(next_probe_at="2100-01-01T00:00Z")
    connection.refresh_from_db()
    assert connection.revision == 1
    with django_capture_on_commit_callbacks() as callbacks:
        changed = saved(acme, connection, max_concurrency=7)
    assert len(callbacks) == 1
    assert changed.revision == 2
    assert changed.next_probe_at.year < 2100


def test_each_save_leaves_an_audit_event_that_names_fields_and_no_secret(acme: House) -> None:
    connection = saved(acme, authorization="api_key", api_key=SECRET)
    saved(acme, connection, name="Orders 2", api_key=f"{SECRET}-2")
    made, changed = AuditEvent.objects.order_by("at")
    assert (made.action, made.actor, made.tenant) == ("connection.created", "admin@acme.example", acme.tenant)
    assert changed.data == {
        "fields": ["name"], "secrets": ["api_key replaced"], "changes": {"name": ["Orders", "Orders 2"]},
    }  # fmt: skip
    assert SECRET not in f"{made.data} {changed.data}"


def test_advanced_settings_left_blank_stay_as_they_are(acme: House) -> None:
    connection = saved(acme, call_timeout=900)
    assert saved(acme, connection, call_timeout="").call_timeout == 900


def test_who_changes_several_tenants_says_which(acme: House, rival: House) -> None:
    rival.membership(rival.member)
    rival.tenant.memberships.create(user=acme.admin, role="admin")
    third = Tenant.objects.create(name="third")
    form = ConnectionForm({**DATA, "tenant": str(rival.tenant.pk)}, user=acme.admin)
    assert form.is_valid(), form.errors
    assert form.save().tenant == rival.tenant
    assert "tenant" in ConnectionForm(DATA, user=acme.admin).errors
    assert "tenant" in ConnectionForm({**DATA, "tenant": str(third.pk)}, user=acme.admin).errors
    taken = ConnectionForm({**DATA, "tenant": str(rival.tenant.pk)}, user=acme.admin)
    assert taken.errors["name"] == [NAME_TAKEN]


def test_a_save_succeeds_while_the_broker_is_down(
    acme: House, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    Celery("unreachable", broker="redis+socket:///nowhere/valkey.sock").set_current()
    try:
        with django_capture_on_commit_callbacks(execute=True):
            assert saved(acme).next_probe_at <= timezone.now()
    finally:
        product.set_current()
    assert "the message broker does not answer" in caplog.text

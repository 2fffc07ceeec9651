"""Two people change one connection at once: nothing of the first is lost, and no secret follows to another server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from django.db import connection as database
from django.db import connections as databases
from django.db import transaction
from django.http import HttpResponse
from django.test import Client

from connections.forms import ConnectionForm
from connections.models import AuditEvent, Connection, Tenant, User
from tests.conftest import House
from tests.forms import shown_by
from tests.live import Api
from tests.servers.fixtures import StartServer
from tests.servers.kinds import TOKEN
from tests.tools.conftest import eventually
from tools import mcp_client
from tools.calls import offers
from tools.catalog import access
from tools.models import Probe

Answer = TypeVar("Answer")
MARK = "s3cret-m4rk"
HERE, THERE = "http://127.0.0.1:9/mcp", "http://127.0.0.1:10/mcp"
OTHERS_CHANGE = "Nothing of yours was saved."

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        "sqlite" in str(databases.settings), reason="one writer at a time there: nobody waits for a row"
    ),
]


def waiting() -> int:
    """How many sessions of this database wait for somebody else's row."""
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # a transaction sees what it has seen first
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(cursor.fetchone()[0])


def beside(house: House, ask: Callable[[], Answer], change: Callable[[], Any]) -> Answer:
    """Have somebody ask, make a change while they wait to write what they have read, and return what they are told."""

    def asked() -> Answer:
        try:
            return ask()
        finally:
            databases.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Tenant.objects.select_for_update().get(pk=house.tenant.pk)
            answer = pool.submit(asked)
            eventually(waiting, "somebody waits for the row")
            change()
        return answer.result(timeout=30)


def change(house: House, connection: Connection, **data: Any) -> Connection:
    """Change a connection as its admin does."""
    row = Connection.objects.get(pk=connection.pk)
    form = ConnectionForm(ConnectionForm.data_of(row) | data, instance=row, tenant=house.tenant, user=house.admin)
    assert form.is_valid(), form.errors
    return form.save()


@pytest.fixture
def orders(acme: House, open_egress: None) -> Connection:
    data = {"name": "Orders", "server_url": HERE, "authorization": "headers", "headers": "X-Key: old", "enabled": True}
    form = ConnectionForm(data, tenant=acme.tenant, user=acme.admin)
    assert form.is_valid(), form.errors
    return form.save()


def path(connection: Connection) -> str:
    return f"/v1/connections/{connection.pk}"


def page(connection: Connection) -> str:
    return f"/admin/connections/connection/{connection.pk}/change/"


def test_headers_that_are_entered_while_the_url_moves_reach_neither_server(
    api: Api, acme: House, orders: Connection
) -> None:
    api = api.as_(acme.member_token(acme.admin))
    answer = beside(
        acme,
        lambda: api.request("PATCH", path(orders), json={"headers": {"X-Key": MARK}}),
        lambda: change(acme, orders, server_url=THERE, headers="X-Key: other"),
    )
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "secret_of_another_server"), answer.text
    now = Connection.objects.get(pk=orders.pk)
    assert (now.server_url, now.request_headers()) == (THERE, [("X-Key", "other")])


def test_a_url_that_moves_while_headers_are_entered_is_judged_with_them(
    api: Api, acme: House, orders: Connection
) -> None:
    api = api.as_(acme.member_token(acme.admin))
    answer = beside(
        acme,
        lambda: api.request("PATCH", path(orders), json={"server_url": THERE, "authorization": "none"}),
        lambda: change(acme, orders, extra_headers=f"X-Team: {MARK}"),
    )
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/extra_headers"), answer.text
    now = Connection.objects.get(pk=orders.pk)
    assert (now.server_url, dict(now.request_headers())) == (HERE, {"X-Key": "old", "X-Team": MARK})


def test_disable_is_not_lost_beside_a_change_by_a_program(api: Api, acme: House, orders: Connection) -> None:
    api = api.as_(acme.member_token(acme.admin))
    answer = beside(
        acme,
        lambda: api.request("PATCH", path(orders), json={"name": "Renamed"}),
        lambda: Connection.objects.get(pk=orders.pk).set_enabled(False),
    )
    assert (answer.status_code, answer.json()["name"], answer.json()["enabled"]) == (200, "Renamed", False)
    now = Connection.objects.get(pk=orders.pk)
    assert (now.name, now.enabled, answer.headers["ETag"]) == ("Renamed", False, f'"{now.revision}"')


def test_disable_pressed_while_a_change_is_written_comes_after_it(
    acme: House, orders: Connection, signed_in: Callable[[User | None], Client]
) -> None:
    browser = signed_in(acme.admin)
    pressed = {"action": "disable", "_selected_action": [str(orders.pk)]}

    def press() -> HttpResponse:
        try:
            return browser.post("/admin/connections/connection/", pressed)
        finally:
            databases.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            change(acme, orders, name="Renamed")
            answer = pool.submit(press)
            eventually(waiting, "the button waits for the row")
        assert answer.result(timeout=30).status_code == 302
    now = Connection.objects.get(pk=orders.pk)
    assert (now.name, now.enabled) == ("Renamed", False)


def test_who_saves_the_form_while_somebody_disables_reads_who_it_was_and_nothing_is_saved(
    acme: House, orders: Connection, signed_in: Callable[[User | None], Client]
) -> None:
    browser, other = signed_in(acme.admin), signed_in(acme.admin)
    form = shown_by(browser.get(page(orders))) | {"name": "Typed"}
    pressed = {"action": "disable", "_selected_action": [str(orders.pk)]}
    answer = beside(
        acme,
        lambda: browser.post(page(orders), form),
        lambda: other.post("/admin/connections/connection/", pressed),
    )
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "admin@acme.example was quicker and changed “Enabled”" in text
    assert OTHERS_CHANGE in text
    assert (Connection.objects.get(pk=orders.pk).name, Connection.objects.get(pk=orders.pk).enabled) == (
        "Orders",
        False,
    )
    again = shown_by(answer)
    assert (again["name"], "enabled" in again) == ("Typed", False)
    assert browser.post(page(orders), again).status_code == 302
    now = Connection.objects.get(pk=orders.pk)
    assert (now.name, now.enabled) == ("Typed", False)


def test_a_form_that_lay_open_while_a_secret_was_changed_is_not_saved(
    acme: House, orders: Connection, signed_in: Callable[[User | None], Client]
) -> None:
    browser = signed_in(acme.admin)
    form = shown_by(browser.get(page(orders)))
    change(acme, orders, headers=f"X-Key: {MARK}")
    answer = browser.post(page(orders), form | {"server_url": THERE, "headers": "X-Key: mine"})
    text = answer.content.decode()
    assert "was quicker and changed “Custom headers”" in text
    assert (THERE in text, MARK in text, "X-Key: mine" in text) == (True, False, False)
    assert dict(Connection.objects.get(pk=orders.pk).request_headers()) == {"X-Key": MARK}
    assert AuditEvent.objects.filter(action="connection.changed").count() == 1


def test_a_form_sent_without_its_marks_is_judged_on_the_row_that_it_was_read_from(
    acme: House, orders: Connection, signed_in: Callable[[User | None], Client]
) -> None:
    browser = signed_in(acme.admin)
    form = shown_by(browser.get(page(orders))) | {"name": "Typed"}
    del form["shown"]
    answer = beside(
        acme, lambda: browser.post(page(orders), form), lambda: Connection.objects.get(pk=orders.pk).set_enabled(False)
    )
    assert OTHERS_CHANGE in answer.content.decode()
    assert not Connection.objects.get(pk=orders.pk).enabled


def test_a_check_that_began_before_the_server_moved_says_nothing_of_the_new_one(
    acme: House, orders: Connection
) -> None:
    checked = Connection.objects.get(pk=orders.pk)
    change(acme, orders, server_url=THERE, headers="X-Key: other")
    checked.set_credential_state("refused", "unauthorized", "The old server does not let us in.")
    assert not checked.record(era="legacy")
    now = Connection.objects.get(pk=orders.pk)
    assert (now.credential_state, now.era) == ("ready", "")


def test_a_refusal_by_the_server_before_teaches_nothing_of_the_one_after(acme: House, orders: Connection) -> None:
    change(acme, orders, server_url=THERE, headers="X-Key: other")
    refusal = mcp_client.Unauthorized(None, sent=True)
    access.record_failure(orders.pk, refusal, server_url=HERE)
    assert Connection.objects.get(pk=orders.pk).credential_state == "ready"
    access.record_failure(orders.pk, refusal, server_url=THERE)
    access.record_success(orders.pk, server_url=HERE)
    assert Connection.objects.get(pk=orders.pk).credential_state == "refused"
    access.record_success(orders.pk, server_url=THERE)
    assert Connection.objects.get(pk=orders.pk).credential_state == "ready"


# --- If-Match ---


def test_a_change_names_the_revision_that_it_is_for(api: Api, acme: House, orders: Connection) -> None:
    api = api.as_(acme.member_token(acme.admin))
    tag = api.get(path(orders)).headers["ETag"]
    first = api.request("PATCH", path(orders), json={"name": "First"}, headers={"If-Match": tag})
    assert first.status_code == 200
    late = api.request("PATCH", path(orders), json={"name": "Second"}, headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert late.headers["content-type"] == "application/problem+json"
    for method, where in (("POST", f"{path(orders)}/probe"), ("DELETE", path(orders))):
        assert api.request(method, where, headers={"If-Match": tag}).status_code == 412
    assert Connection.objects.get(pk=orders.pk).name == "First"
    tag = first.headers["ETag"]
    assert api.request("POST", f"{path(orders)}/probe", headers={"If-Match": tag}).headers["ETag"] == tag
    assert api.request("DELETE", path(orders), headers={"If-Match": tag}).status_code == 204


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("*", 200),
        ("{tag}", 200),
        ('"other", {tag}', 200),
        ('"other",{tag} , "third"', 200),
        ("W/{tag}", 412),
        ('"other"', 412),
        ('W/{tag}, "other"', 412),
        ("1", 412),
        ("", 412),
        ("nonsense", 412),
        ('"*"', 412),
    ],
)
def test_if_match_is_compared_strongly(api: Api, acme: House, orders: Connection, value: str, status: int) -> None:
    api = api.as_(acme.member_token(acme.admin))
    tag = api.get(path(orders)).headers["ETag"]
    header = {"If-Match": value.replace("{tag}", tag)}
    assert api.request("PATCH", path(orders), json={"name": "New"}, headers=header).status_code == status
    assert Connection.objects.get(pk=orders.pk).name == ("New" if status == 200 else "Orders")


def test_a_change_beside_another_is_refused_when_it_names_a_revision(api: Api, acme: House, orders: Connection) -> None:
    api = api.as_(acme.member_token(acme.admin))
    tag = api.get(path(orders)).headers["ETag"]
    answer = beside(
        acme,
        lambda: api.request("PATCH", path(orders), json={"name": "Late"}, headers={"If-Match": tag}),
        lambda: Connection.objects.get(pk=orders.pk).set_enabled(False),
    )
    assert (answer.status_code, Connection.objects.get(pk=orders.pk).name) == (412, "Orders")


def test_a_rivals_connection_is_missing_whatever_if_match_says(
    api: Api, acme: House, rival: House, orders: Connection
) -> None:
    api = api.as_(rival.member_token(rival.admin))
    for value in ("*", '"1"', '"99"'):
        for method, body in (("PATCH", {"name": "Mine"}), ("DELETE", None)):
            assert api.request(method, path(orders), json=body, headers={"If-Match": value}).status_code == 404


def test_of_many_who_change_different_fields_at_once_each_gets_through(
    api: Api, acme: House, orders: Connection
) -> None:
    api = api.as_(acme.member_token(acme.admin))
    changes = [{"name": "New"}, {"call_timeout": 7}, {"max_rate": 9}, {"send_trace": True}, {"idle_timeout": 8}]
    with ThreadPoolExecutor(len(changes)) as pool:
        answers = list(pool.map(lambda body: api.request("PATCH", path(orders), json=body).status_code, changes))
    assert answers == [200] * len(changes)
    now = Connection.objects.get(pk=orders.pk)
    assert (now.name, now.call_timeout, now.max_rate, now.send_trace, now.idle_timeout) == ("New", 7, 9, True, 8)
    assert now.revision == orders.revision + len(changes)


# --- a secret that was left behind ---


def test_a_connection_whose_server_moved_under_its_secret_says_enter_it_again(
    api: Api, acme: House, mcp_server: StartServer, probed: Callable[[Connection], Probe]
) -> None:
    here, there = mcp_server("behind 401"), mcp_server("behind 401")
    data = {"name": "Orders", "server_url": here.url, "authorization": "api_key", "api_key": TOKEN, "enabled": True}
    form = ConnectionForm(data, tenant=acme.tenant, user=acme.admin)
    assert form.is_valid(), form.errors
    connection = form.save()
    assert probed(connection).outcome == "passed"
    called = api.as_(acme.token())
    assert called.call("orders__echo", {"text": "x"}).status_code == 200
    Connection.objects.filter(pk=connection.pk).update(server_url=there.url)
    offers.forget()
    refused = called.call("orders__echo", {"text": "x"})
    assert (refused.status_code, refused.json()["code"]) == (503, "secret_of_another_server")
    probed(connection)
    assert (connection.credential_state, connection.credential_reason) == ("refused", "secret_of_another_server")
    assert connection.next_step.startswith("Enter the credential again")
    assert TOKEN not in str([request.headers for request in there.requests])
    offers.forget()
    assert called.call("orders__echo", {"text": "x"}).status_code == 503
    change(acme, connection, api_key=TOKEN)
    assert probed(connection).outcome == "passed"
    offers.forget()
    assert called.call("orders__echo", {"text": "x"}).status_code == 200

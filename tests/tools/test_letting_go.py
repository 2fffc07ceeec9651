"""What has very many calls is deleted all the same, and no statement takes long for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.utils import timezone

from connections import deleting
from connections.models import Connection, User
from tests.conftest import House
from tools.models import Assignment, Call, Tool

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]
MANY = 1_200
MOST = 500  # rows of one statement


@contextmanager
def largest() -> Iterator[list[int]]:
    """Note how many rows each statement inside changes."""
    found = [0]

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith(("UPDATE", "DELETE")):
            found.append(context["cursor"].rowcount)
        return result

    with database.execute_wrapper(note):
        yield found


@pytest.fixture
def busy(acme: House) -> tuple[Connection, Assignment]:
    """A connection and an assignment with many calls that have ended, and one that is open."""
    connection, assignment, now = acme.connection("Orders"), acme.assignment(), timezone.now()
    tool = Tool.objects.create(
        connection=connection, name="echo", public_name="orders__echo", definition={}, digest="d", approved_digest="d",
        approved_definition={}, approved_at=now,
    )  # fmt: skip
    ended = {"state": "succeeded", "sealed_result": "x", "started_at": now, "finished_at": now + timedelta(seconds=1)}
    Call.objects.bulk_create(
        Call(
            tenant=acme.tenant, assignment=assignment, connection=connection, tool=tool, tool_name="orders__echo",
            sealed_arguments="x", **(ended if number else {"state": "queued"}),
        )
        for number in range(MANY + 1)
    )  # fmt: skip
    return connection, assignment


@pytest.mark.parametrize("door", ["page", "list", "api"])
@pytest.mark.parametrize("what", ["connection", "assignment"])
def test_its_calls_forget_it_a_few_at_a_time_and_stay(
    acme: House, busy: tuple[Connection, Assignment], signed_in: SignedIn, door: str, what: str
) -> None:
    row = busy[what == "assignment"]
    listed = f"/admin/{row._meta.app_label}/{what}/"
    client = signed_in(acme.admin)
    bearer = {"Authorization": f"Bearer {acme.member_token(acme.admin)}"}
    with largest() as changed:
        if door == "page":
            assert client.post(f"{listed}{row.pk}/delete/", {"post": "yes"}).status_code == 302
        elif door == "list":
            chosen = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"}
            assert client.post(listed, chosen).status_code == 302
        else:
            assert Client().delete(f"/v1/{what}s/{row.pk}", headers=bearer).status_code == 204
    assert not type(row)._default_manager.filter(pk=row.pk).exists()
    assert Call.objects.filter(**{what: None}).count() == MANY + 1
    assert MOST - 1 <= max(changed) <= MOST


def test_a_deletion_that_nobody_has_confirmed_takes_nothing_from_its_calls(
    acme: House, busy: tuple[Connection, Assignment], signed_in: SignedIn
) -> None:
    page = f"/admin/connections/connection/{busy[0].pk}/delete/"
    assert signed_in(acme.admin).post(page).status_code == 200, "which asks"
    assert Call.objects.filter(connection=busy[0]).count() == MANY + 1


def test_who_may_not_delete_it_has_nothing_forgotten(
    acme: House, rival: House, busy: tuple[Connection, Assignment], signed_in: SignedIn
) -> None:
    connection, assignment = busy
    for person in (acme.auditor, rival.admin):
        for row in busy:
            page = f"/admin/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/delete/"
            assert signed_in(person).post(page, {"post": "yes"}).status_code in {302, 403, 404}
            bearer = {"Authorization": f"Bearer {rival.member_token(rival.admin)}"}
            assert Client().delete(f"/v1/{row._meta.model_name}s/{row.pk}", headers=bearer).status_code == 404
    bearer = {"Authorization": f"Bearer {acme.member_token(acme.admin)}", "If-Match": '"0"'}
    for row in busy:
        assert Client().delete(f"/v1/{row._meta.model_name}s/{row.pk}", headers=bearer).status_code == 412
    assert Call.objects.filter(connection=connection, assignment=assignment).count() == MANY + 1


def test_calls_that_end_meanwhile_keep_nobody_waiting_for_ever(
    acme: House, busy: tuple[Connection, Assignment]
) -> None:
    connection, _ = busy
    updates = 0

    def another_ends(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal updates
        result = execute(sql, params, many, context)
        if sql.startswith('UPDATE "tools_call"'):
            updates += 1
            if updates < 50:
                Call.objects.bulk_create([Call(
                    tenant=acme.tenant, connection=connection, tool_name="x", sealed_arguments="x", state="succeeded",
                    sealed_result="x", started_at=timezone.now(), finished_at=timezone.now(),
                )])  # fmt: skip
        return result

    with database.execute_wrapper(another_ends):
        deleting.let_go(Connection.objects.filter(pk=connection.pk))
    assert updates == 3

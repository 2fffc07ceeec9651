"""Whatever is deleted while something runs for it is deleted: no error at either side, and nothing is left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import connection as database
from django.test import Client
from django.utils import timezone

from connections import tasks as connection_tasks
from connections.models import AuditEvent, Connection, Notice, Tenant, User
from oauth import tasks as oauth_tasks
from oauth.models import SignIn
from tests.conftest import House
from tests.field.deleter import deleting_before
from tests.oauth.conftest import Scene, StartScene, scene  # noqa: F401 - a fixture
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartServer
from tests.tools.conftest import OpenShop, Shop, eventually, open_shop  # noqa: F401 - a fixture
from tools import tasks
from tools.calls import life, offers
from tools.catalog import probing
from tools.models import Call

MOST = 150  # statements of one story
STEP = 4  # of them between two deletions, for the stories that take long to set up

SignedIn = Callable[[User | None], Client]
Story = Callable[[], Any]
Begin = Callable[[], tuple[Connection, Story]]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.filterwarnings("error::RuntimeWarning")]


@pytest.fixture(autouse=True)
def _no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    told = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not told, [(record.getMessage(), record.exc_info) for record in told]


@pytest.fixture
def by_the_api(acme: House, transactional_db: None) -> Callable[[Connection], int]:
    token = acme.member_token(acme.admin)

    def delete(connection: Connection) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        status: int = Client(headers=headers).delete(f"/v1/connections/{connection.pk}").status_code
        return status

    return delete


@pytest.fixture
def by_the_admin(acme: House, signed_in: SignedIn) -> Callable[[Connection], int]:
    browser = signed_in(acme.admin)

    def delete(connection: Connection) -> int:
        page = f"/admin/connections/connection/{connection.pk}/delete/"
        status: int = browser.post(page, {"post": "yes"}).status_code
        return status

    return delete


@pytest.fixture
def by_the_list(acme: House, signed_in: SignedIn) -> Callable[[Connection], int]:
    browser = signed_in(acme.admin)

    def delete(connection: Connection) -> int:
        form = {"action": "delete_selected", "_selected_action": [str(connection.pk)], "post": "yes"}
        status: int = browser.post("/admin/connections/connection/", form).status_code
        return status

    return delete


def left_behind(connection_id: Any) -> list[str]:
    """The rows that still refer to a connection which is gone; calls stay, and forget it."""
    return [
        model.__name__
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if field.related_model is Connection
        and model._default_manager.filter(**{field.attname: connection_id}).exists()
    ]


def sweep(begin: Begin, delete: Callable[[Connection], int], *, step: int = 1) -> None:
    """Run a story once for each of its statements, and delete before that."""
    for number in range(1, MOST, step):
        connection, story = begin()
        key = connection.pk
        with deleting_before(number, partial(delete, connection)) as deleter:
            story()
        if deleter.done:
            assert deleter.outcome in {204, 302}, (number, deleter.outcome)
            assert not Connection.objects.filter(pk=key).exists(), number
            assert left_behind(key) == [], number
        elif not deleter.reached:
            assert number > 3, "the story sends some statements"
            return
        Connection.objects.filter(pk=key).delete()


@pytest.fixture(params=["by_the_api", "by_the_admin", "by_the_list"])
def delete(request: pytest.FixtureRequest) -> Callable[[Connection], int]:
    door: Callable[[Connection], int] = request.getfixturevalue(request.param)
    return door


@pytest.mark.smoke
def test_a_check(acme: House, mcp_server: StartServer, delete: Callable[[Connection], int], open_egress: None) -> None:
    server = mcp_server("dual")

    def begin() -> tuple[Connection, Story]:
        row = acme.connection(url=server.url)
        return row, lambda: tasks.probe_connection(connection_id=str(row.pk))

    sweep(begin, delete)


def signed_in_anew(scene: Scene) -> Connection:  # noqa: F811
    Connection.objects.all().delete()
    scene.connection = scene.house.connection(
        url=scene.server.url, authorization="oauth", credential_state="needs_sign_in"
    )
    scene.sign_in()
    return scene.connection


def renewal(scene: Scene) -> Story:  # noqa: F811
    key = scene.sign_in_row.pk
    SignIn.objects.filter(pk=key).update(expires_at=timezone.now() - timedelta(seconds=1))
    return lambda: oauth_tasks.attend_sign_in(sign_in_id=str(key))


def renewal_refused(scene: Scene) -> Story:  # noqa: F811
    scene.auth.revoke_everything()
    return renewal(scene)


def notice(scene: Scene) -> Story:  # noqa: F811
    renewal_refused(scene)()
    key = Notice.objects.get(connection=scene.connection).pk
    return lambda: connection_tasks.deliver_notice(notice_id=str(key))


def leaver(scene: Scene) -> Story:  # noqa: F811
    SignIn.objects.update(person=None)
    key = scene.sign_in_row.pk
    return lambda: oauth_tasks.tell_who_left(sign_in_id=str(key))


def discovery(scene: Scene) -> Story:  # noqa: F811
    key = scene.connection.pk
    return lambda: oauth_tasks.discover_again(connection_id=str(key))


def check(scene: Scene) -> Story:  # noqa: F811
    key = scene.connection.pk
    return lambda: tasks.probe_connection(connection_id=str(key))


def sign_out(scene: Scene) -> Story:  # noqa: F811
    return lambda: expect_page(scene.press("sign-out"))


def sign_in(scene: Scene) -> Story:  # noqa: F811
    return lambda: expect_page(scene.press("sign-in"))


def come_back(scene: Scene) -> Story:  # noqa: F811
    callback = approve(scene.depart())
    return lambda: expect_page(scene.come_back(callback))


def check_sign_in(scene: Scene) -> Story:  # noqa: F811
    return lambda: expect_page(scene.press("check-sign-in"))


def expect_page(response: Any) -> None:
    assert response.status_code < 500, response.content[:300]


STORIES = [
    renewal, renewal_refused, notice, leaver, discovery, check, sign_out, sign_in, come_back, check_sign_in,
]  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_a_sign_in_and_what_follows_from_it(
    scene: StartScene,  # noqa: F811
    by_the_api: Callable[[Connection], int],
    story: Callable[[Scene], Story],
) -> None:
    stage = scene()

    def begin() -> tuple[Connection, Story]:
        row = signed_in_anew(stage)
        return row, story(stage)

    sweep(begin, by_the_api, step=STEP)


def at_once(shop: Shop) -> Story:
    return lambda: expect_page(shop.call("echo", {"text": "hello"}))


def with_a_key(shop: Shop) -> Story:
    return lambda: expect_page(shop.call("echo", {"text": "hello"}, headers={"Idempotency-Key": "7"}))


def queued(shop: Shop) -> Story:
    assert shop.call("echo", {"text": "hello"}, headers={"Prefer": "respond-async"}).status_code == 202
    key = Call.objects.latest("created_at").pk
    return lambda: life.resume(key)


def swept(shop: Shop) -> Story:
    queued(shop)
    return tasks.sweep_calls


@pytest.mark.parametrize("story", [at_once, with_a_key, queued, swept])
def test_a_call(
    open_shop: OpenShop,  # noqa: F811
    acme: House,
    by_the_api: Callable[[Connection], int],
    story: Callable[[Shop], Story],
) -> None:
    shop = open_shop()

    def begin() -> tuple[Connection, Story]:
        Connection.objects.all().delete()
        Call.objects.all().delete()
        shop.connection = acme.connection("Orders", shop.server.url)
        probing.probe(shop.connection.pk)
        offers.forget()
        return shop.connection, story(shop)

    sweep(begin, by_the_api)
    assert not Call.objects.filter(finished_at=None, state="running").exists()


def test_an_organization_goes_with_all_that_runs_for_it(
    scene: StartScene,  # noqa: F811
    superuser: User,
    signed_in: SignedIn,
) -> None:
    """Each story once, in the middle of what it sends."""
    browser = signed_in(superuser)
    stage = scene()
    signed_in_anew(stage)
    tenant = stage.house.tenant.pk
    story = check(stage)
    page = f"/admin/connections/tenant/{tenant}/delete/"
    with deleting_before(20, lambda: browser.post(page, {"post": "yes"}).status_code) as deleter:
        story()
    assert deleter.outcome == 302
    assert not Tenant.objects.exists()
    assert not SignIn.objects.exists()
    assert AuditEvent.objects.filter(action="tenant.deleted").exists()


@pytest.mark.skipif(database.vendor != "postgresql", reason="SQLite has one writer: nobody waits for another in turn.")
@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "order-4711"}], ids=["without a key", "with a key"])
def test_a_deletion_and_a_call_that_wait_for_each_other_do_not_cost_the_call(
    open_shop: OpenShop,  # noqa: F811
    key: dict[str, str],
) -> None:
    shop = open_shop()
    known = database.settings_dict
    address = {"dbname": known["NAME"], "user": known["USER"], "host": known["HOST"], "port": known["PORT"] or None}

    def waits() -> bool:
        with database.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return cursor.fetchone() is not None

    with psycopg.connect(**address, password=known["PASSWORD"]) as deletion, ThreadPoolExecutor(1) as pool:
        deletion.execute("SELECT 1 FROM connections_connection FOR UPDATE")
        answer = pool.submit(shop.call, "echo", {"text": "x"}, headers=key)
        eventually(waits, "the call waits for the deletion")
        with suppress(psycopg.errors.DeadlockDetected):  # at one of the two
            for table in ("connections_tenant", "tools_assignment", "tools_tool"):
                deletion.execute(f"SELECT 1 FROM {table} FOR UPDATE")  # noqa: S608 - our own tables
        deletion.rollback()
        assert answer.result(30).status_code == 200, answer.result().text

"""An organization that has much is deleted by a worker, piece by piece, and stands still from the first moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections import deleting
from connections.forms import OrganizationForm
from connections.models import AuditEvent, Connection, Tenant, User
from oauth.models import SignIn
from tests.conftest import House
from tests.forms import shown_by
from tests.oauth.conftest import StartScene, scene  # noqa: F401 - a fixture
from tests.oauth.test_sign_in import works
from tests.tools.conftest import OpenShop, eventually
from tools import tasks
from tools.calls import organizations, retention
from tools.models import Assignment, Call, CallEvent, Tool

SignedIn = Callable[[User | None], Client]
MANY = 120


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "MOST_AT_ONCE", 100)
    monkeypatch.setattr(retention, "AT_ONCE", 50)


def with_calls(house: House, many: int = MANY, state: str = "succeeded") -> list[Call]:
    connection, assignment = house.connection(), house.assignment()
    tool = Tool.objects.create(connection=connection, name="t", public_name="orders__t", definition={}, digest="d")
    ended = timezone.now() if state == "succeeded" else None
    return Call.objects.bulk_create(
        Call(
            tenant=house.tenant, assignment=assignment, connection=connection, tool=tool, tool_name=tool.public_name,
            state=state, sealed_arguments="x", sealed_result="x" if ended else "", started_at=ended, finished_at=ended,
        )
        for _ in range(many)
    )  # fmt: skip


def page_of(house: House) -> str:
    return f"/admin/connections/tenant/{house.tenant.pk}"


@pytest.mark.django_db
def test_the_page_that_asks_reads_no_call(acme: House, superuser: User, signed_in: SignedIn) -> None:
    with_calls(acme)
    with CaptureQueriesContext(database) as captured:
        page = signed_in(superuser).get(f"{page_of(acme)}/delete/")
    assert page.status_code == 200
    assert f"calls: {MANY}" in page.content.decode().lower()
    read = [query["sql"] for query in captured.captured_queries if 'FROM "tools_call"' in query["sql"]]
    assert read
    assert [sql for sql in read if not sql.startswith("SELECT COUNT(*)")] == []


@pytest.mark.django_db
def test_it_is_suspended_at_once_and_gone_once_a_worker_has_been_there(
    acme: House, rival: House, superuser: User, signed_in: SignedIn
) -> None:
    with_calls(acme), with_calls(rival)
    browser = signed_in(superuser)
    answer = browser.post(f"{page_of(acme)}/delete/", {"post": "yes"}, follow=True)
    told = answer.content.decode()
    assert "a worker does that now" in told
    assert "deleted successfully" not in told
    tenant = Tenant.objects.get(pk=acme.tenant.pk)
    assert tenant.suspended_at is not None
    assert tenant.calls.count() == MANY
    told = browser.get(f"{page_of(acme)}/change/").content.decode()
    assert "It is being deleted." in told
    told = browser.post(f"{page_of(acme)}/resume/", follow=True).content.decode()
    assert "It is being deleted: that goes on." in told
    tenant.refresh_from_db()
    assert tenant.suspended_at is not None
    tasks.delete_organizations()
    assert list(Tenant.objects.all()) == [rival.tenant]
    for model in (Call, CallEvent, Connection, Assignment, Tool):
        assert model._base_manager.exists(), "the rival's"
    assert Call.objects.count() == MANY
    assert AuditEvent.objects.get(action="tenant.deletion_begun").actor == superuser.username
    assert AuditEvent.objects.get(action="tenant.deleted").actor == "system"


@pytest.mark.django_db
def test_what_a_run_does_not_get_to_is_left_to_the_next(acme: House, rival: House) -> None:
    with_calls(acme), with_calls(rival, 5, "queued")
    for house in (acme, rival):
        house.tenant.begin_deletion()
    left = []
    while Tenant.objects.exists():
        organizations.carry_on(patience=0)
        left.append(Call.objects.count() + Connection.objects.count())
        assert len(left) < 20
    assert left == sorted(left, reverse=True)
    assert len(left) > 4, "in pieces"


@pytest.mark.django_db
def test_one_that_cannot_be_deleted_keeps_no_other_waiting(
    acme: House, rival: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for house in (rival, acme):
        house.tenant.begin_deletion()
    delete = organizations._delete

    def fails(tenant: Tenant) -> None:
        if tenant == rival.tenant:
            raise OperationalError
        delete(tenant)

    monkeypatch.setattr(organizations, "_delete", fails)
    assert organizations.carry_on() == 1
    assert list(Tenant.objects.all()) == [rival.tenant]
    assert str(rival.tenant.pk) in caplog.text
    monkeypatch.undo()
    assert organizations.carry_on() == 1


@pytest.mark.django_db
def test_what_others_save_or_press_at_this_moment_does_not_stop_it(
    acme: House, superuser: User, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, page = signed_in(acme.admin), f"{page_of(acme)}/change/"
    form = shown_by(browser.get(page)) | {"name": "Acme Ltd"}
    clean = OrganizationForm.clean

    def meanwhile(self: OrganizationForm) -> Any:
        Tenant.objects.get(pk=acme.tenant.pk).begin_deletion()
        return clean(self)

    monkeypatch.setattr(OrganizationForm, "clean", meanwhile)
    assert browser.post(page, form).status_code == 302
    tenant = Tenant.objects.get(pk=acme.tenant.pk)
    assert tenant.name == "Acme Ltd"
    assert tenant.deletion_begun_at is not None
    assert tenant.suspended_at == tenant.deletion_begun_at
    staff = signed_in(superuser)
    for button in ("suspend", "resume"):
        told = staff.post(f"{page_of(acme)}/{button}/", {"reason": "Not paid"}, follow=True).content.decode()
        assert "It is being deleted: that goes on." in told
    tenant.refresh_from_db()
    assert (tenant.suspended_reason, tenant.suspended_at) == ("It is being deleted.", tenant.deletion_begun_at)


@pytest.mark.django_db
def test_several_that_are_chosen_go_each_in_its_way(
    acme: House, rival: House, superuser: User, signed_in: SignedIn
) -> None:
    with_calls(acme)
    chosen = {"action": "delete_selected", "post": "yes", "_selected_action": [acme.tenant.pk, rival.tenant.pk]}
    asked = {name: value for name, value in chosen.items() if name != "post"}
    browser = signed_in(superuser)
    assert f"calls: {MANY}" in browser.post("/admin/connections/tenant/", asked).content.decode().lower()
    told = browser.post("/admin/connections/tenant/", chosen, follow=True).content.decode()
    assert "cme has much to delete" in told
    assert "ival was deleted." in told
    assert "Successfully" not in told
    assert list(Tenant.objects.all()) == [acme.tenant]
    tasks.delete_organizations()
    assert not Tenant.objects.exists()


def test_nothing_runs_for_it_meanwhile(open_shop: OpenShop, superuser: User, signed_in: SignedIn) -> None:
    shop = open_shop()
    assert shop.call("echo", {"text": "x"}).status_code == 200
    Call.objects.bulk_create(
        Call(tenant_id=shop.connection.tenant_id, tool_name="x", state="queued", sealed_arguments="x")
        for _ in range(MANY)
    )
    page = f"/admin/connections/tenant/{shop.connection.tenant_id}/delete/"
    assert signed_in(superuser).post(page, {"post": "yes"}).status_code == 302
    answer = shop.call("echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (403, "organization_suspended")
    tasks.delete_organizations()
    assert not Tenant.objects.exists()
    eventually(lambda: shop.call("echo", {"text": "x"}).status_code == 401, "nobody knows the token any more")


@pytest.mark.parametrize("suspended", [False, True], ids=["in use", "suspended before"])
def test_its_tokens_are_given_back_unless_staff_had_suspended_it(
    scene: StartScene,  # noqa: F811
    suspended: bool,
) -> None:
    opened = scene()
    works(opened)
    tenant = opened.house.tenant
    if suspended:
        tenant.suspended_at = timezone.now() - timedelta(days=1)
        tenant.save(update_fields=["suspended_at"])
    tenant.begin_deletion()
    tasks.delete_organizations()
    assert not SignIn.objects.exists()
    if suspended:
        assert opened.auth.at("/revoke") == []
    else:
        eventually(lambda: len(opened.auth.at("/revoke")) == 1, "the provider is told")

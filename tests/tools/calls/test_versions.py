"""What a call is opened on may be known from minutes ago, and whatever is changed holds from the next call on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import models
from django.utils import timezone

from connections.models import Connection, Credential, Tenant
from oauth.models import Registration, SignIn
from tests.conftest import House
from tests.tools.conftest import OpenShop, Shop, eventually
from tools import callers
from tools.calls import offer_rows, offers, versions
from tools.models import AccessToken, Assignment, Call, Tool

pytestmark = pytest.mark.smoke

Change = Callable[[Shop], Any]


@pytest.fixture
def shop(open_shop: OpenShop) -> Shop:
    shop = open_shop()
    assert shop.call("echo", {"text": "x"}).status_code == 200  # now the offer and the caller are known
    return shop


def rows(model: type[models.Model], **members: Any) -> Change:
    return lambda _: model._default_manager.update(**members)


def revoke(shop: Shop) -> None:
    AccessToken.objects.get(assignment=shop.assignment).revoke()


def take_away(shop: Shop) -> None:
    Assignment.objects.filter(pk=shop.assignment.pk).update(scope=Assignment.Scope.CHOSEN)


def give_another(shop: Shop) -> None:
    take_away(shop)
    shop.assignment.tools.add(Tool.objects.get(name="add"))


def delete_connection(shop: Shop) -> None:
    Connection.objects.all().delete()


LATER = timezone.now() + timedelta(days=1)
STOPS: dict[str, tuple[Change, int, str]] = {
    "a revoked token": (revoke, 401, "unauthenticated"),
    "an expired token": (rows(AccessToken, expires_at=timezone.now()), 401, "unauthenticated"),
    "a disabled assignment": (rows(Assignment, enabled=False), 401, "unauthenticated"),
    "a suspended organization": (rows(Tenant, suspended_at=timezone.now()), 403, "organization_suspended"),
    "a disabled connection": (lambda shop: shop.connection.set_enabled(False), 404, "tool_not_found"),
    "a deleted connection": (delete_connection, 404, "tool_not_found"),
    "a denied tool": (rows(Tool, policy="deny"), 403, "tool_denied"),
    "a changed definition": (rows(Tool, digest="0" * 64), 409, "tool_changed"),
    "a tool that is gone": (rows(Tool, gone_at=timezone.now()), 409, "tool_gone"),
    "a tool that was not chosen": (take_away, 404, "tool_not_found"),
    "another tool that was chosen": (give_another, 404, "tool_not_found"),
    "a tool whose calls are approved": (rows(Tool, policy="ask"), 202, ""),
    "a tool that runs in the queue": (rows(Tool, placement="queue"), 202, ""),
    "a tool that was slow": (rows(Tool, slow_until=LATER), 202, ""),
    "a server that was never listed": (rows(Connection, tools_state="never_listed"), 503, "not_checked"),
    "no room left": (rows(Tenant, max_stored=1, stored_bytes=2_000_000), 429, "quota_reached"),
    "no calls left": (rows(Assignment, max_rate=0), 429, "assignment_rate"),
}


@pytest.mark.parametrize(("change", "status", "code"), STOPS.values(), ids=STOPS)
def test_what_is_changed_holds_from_the_next_call_on(shop: Shop, change: Change, status: int, code: str) -> None:
    change(shop)
    answer = shop.call("echo", {"text": "x"}, headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.json().get("code", "")) == (status, code), answer.text
    assert shop.server.count("tools/call") == 1


@pytest.mark.parametrize(("change", "status", "code"), STOPS.values(), ids=STOPS)
def test_it_holds_with_a_key_and_for_a_worker(shop: Shop, change: Change, status: int, code: str) -> None:
    change(shop)
    more = {"Prefer": "respond-async", "Idempotency-Key": "k"}
    answer = shop.call("echo", {"text": "x"}, headers=more)
    assert (answer.status_code, answer.json().get("code", "")) == (status, code), answer.text
    assert Call.objects.count() == (2 if status == 202 else 1)


def test_a_repeated_request_with_a_revoked_token_gets_nothing(shop: Shop) -> None:
    key = {"Idempotency-Key": "k"}
    assert shop.call("echo", {"text": "x"}, headers=key).status_code == 200
    revoke(shop)
    assert shop.call("echo", {"text": "x"}, headers=key).status_code == 401


@pytest.mark.parametrize(
    "body", [b'{"arguments": {"text": 7}}', b'{"arguments": []}', b"{", b'{"arguments": {"more": 1}}']
)
def test_who_is_no_longer_let_in_hears_that_and_nothing_of_the_tool(
    shop: Shop, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoke(shop)
    callers.principals.clear()  # as it is after a second
    assert shop.post(body).status_code == 401
    assert shop.post(body, "nothing").status_code == 401


def test_a_program_that_goes_on_calling_with_a_revoked_token_hears_401_each_time(shop: Shop) -> None:
    revoke(shop)
    asked = [shop.call("echo", {"text": "x"}).status_code for _ in range(callers.UNKNOWN_AT_ONCE + 5)]
    assert set(asked) == {401}


def test_a_call_notes_that_its_token_was_used(shop: Shop) -> None:
    AccessToken.objects.update(last_used_at=timezone.now() - timedelta(days=1))
    callers._noted.clear()  # as it is after a minute
    assert shop.call("echo", {"text": "x"}).status_code == 200
    lately = timezone.now() - timedelta(minutes=1)
    eventually(lambda: AccessToken.objects.filter(last_used_at__gt=lately).exists(), "the note")


def test_a_refusal_is_decided_on_what_was_read_a_moment_ago(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "RECENT", 0.0)  # as after a second
    Assignment.objects.update(max_rate=0)
    assert shop.call("echo", {"text": "x"}).status_code == 429
    Assignment.objects.update(max_rate=1_000)
    assert shop.call("echo", {"text": "x"}).status_code == 200
    Connection.objects.update(max_concurrency=0)
    assert shop.call("echo", {"text": "x"}).status_code == 429
    Connection.objects.update(max_concurrency=5)
    assert shop.call("echo", {"text": "x"}).status_code == 200


def test_a_call_goes_to_the_server_and_with_the_secret_of_this_moment(
    open_shop: OpenShop, acme: House, mcp_server: Any
) -> None:
    shop = open_shop()
    assert shop.call("echo", {"text": "x"}).status_code == 200
    secret = Credential(connection=shop.connection, kind=Credential.Kind.EXTRA_HEADERS)
    secret.set({"X-Secret": "first"}, by=acme.admin)
    assert shop.call("echo", {"text": "x"}).status_code == 200
    secret.set({"X-Secret": "second"}, by=acme.admin)
    assert shop.call("echo", {"text": "x"}).status_code == 200
    secret.delete()
    assert shop.call("echo", {"text": "x"}).status_code == 200
    calls = [seen for seen in shop.server.requests if seen.rpc_method == "tools/call"]
    assert [seen.headers.get("x-secret") for seen in calls] == [None, "first", "second", None]


# --- what the version is made of ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", versions.CHECKED, ids=lambda model: model.__name__)
def test_every_field_is_in_the_version_or_said_to_be_harmless(model: type[models.Model]) -> None:
    checked = set(versions.CHECKED[model])
    harmless = [name for names in versions.HARMLESS[model].values() for name in names]
    fields = {field.name for field in [*model._meta.concrete_fields, *model._meta.local_many_to_many]}
    assert fields == checked | set(harmless), "say of each new field whether an offer depends on it"
    assert len(checked) + len(harmless) == len(fields), "a field is in both"


def version_of(shop: Shop) -> str:
    token = AccessToken.objects.get(assignment=shop.assignment)
    key = (shop.assignment.pk, token.pk, "orders__echo")
    return offer_rows.read([key])[key].version


def another(field: Any, value: Any) -> Any:
    """A value of a field that differs from this one."""
    if field.choices:
        return next(choice for choice, _ in field.choices if choice != value)
    if isinstance(field, models.BooleanField):
        return not value
    if isinstance(field, models.DateTimeField):
        return LATER if value != LATER else LATER + timedelta(days=1)
    if isinstance(field, models.IntegerField):
        return (value or 0) + 1
    return f"{'y' if str(value or '').startswith('x') else 'x'}{str(value or '')[1:]}"


MEMBERS = [
    (model, name)
    for model in versions.MADE_OF.values()
    for name in versions.CHECKED[model]
    if not (field := model._meta.get_field(name)).is_relation and not field.primary_key
]


@pytest.mark.parametrize(("model", "name"), MEMBERS, ids=lambda part: getattr(part, "__name__", part))
def test_each_of_these_fields_makes_another_version(shop: Shop, model: type[models.Model], name: str) -> None:
    before, field = version_of(shop), model._meta.get_field(name)
    row = Tool.objects.get(public_name="orders__echo") if model is Tool else model._default_manager.get()
    model._default_manager.filter(pk=row.pk).update(**{name: another(field, getattr(row, name))})
    assert version_of(shop) != before


def test_so_do_owners_grants_secrets_and_sign_ins(shop: Shop, acme: House) -> None:
    seen = [version_of(shop)]

    def differs() -> None:
        seen.append(version_of(shop))
        assert len(set(seen)) == len(seen), seen

    Assignment.objects.update(owner=acme.member)
    differs()
    Assignment.objects.update(scope=Assignment.Scope.CHOSEN)
    differs()
    shop.assignment.tools.add(Tool.objects.get(public_name="orders__echo"))
    differs()
    first = Credential(connection=shop.connection, kind=Credential.Kind.EXTRA_HEADERS)
    first.set({"X-Secret": "first"}, by=acme.admin)
    differs()
    second = Credential(connection=shop.connection, kind=Credential.Kind.API_KEY)
    second.set("second", by=acme.admin)
    differs()
    first.delete()
    differs()
    Connection.objects.update(authorization="oauth")
    differs()
    registration = Registration.objects.create(
        connection=shop.connection, issuer="https://as.example", redirect_uri="https://x.example", kind="dcr",
        client_id="us", auth_method="none",
    )  # fmt: skip
    sign_in = SignIn.objects.create(
        connection=shop.connection, registration=registration, server_url=shop.server.url, server={}
    )
    differs()
    for changed in ({"generation": 2}, {"refused_at": timezone.now()}, {"ended_at": timezone.now()}):
        SignIn.objects.filter(pk=sign_in.pk).update(**changed)
        differs()
    Registration.objects.update(client_id="we")
    differs()
    Connection.objects.update(sharing="personal")
    differs()
    acme.membership(acme.member).delete()
    differs()
    type(acme.admin).objects.filter(pk=acme.admin.pk).update(is_active=False)
    differs()

"""The cast: acme with its people, rival with theirs, a reviewer of the platform, and nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module

import hypothesis
import pytest
from django.conf import settings
from django.core.management.commands import flush
from django.db import connection
from django.test import Client, override_settings
from django.test.client import ClientHandler
from django.utils import timezone
from redis import Redis

from connections import heartbeats, key_holders
from connections.models import Connection, Membership, Role, Tenant, User
from tools.models import AccessToken, Assignment

# Examples are made as slowly as a busy machine makes them; that says nothing of the code.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

pytest_plugins = ["tests.servers.fixtures", "tests.live", "tests.processes", "tests.reading"]

# What takes a minute or waits for processes comes first: at the end all but one worker would have nothing to do.
LONGEST = (
    "tests/versions/", "tests/test_no_secret_leaks.py", "tests/duvo/test_health.py", "tests/duvo/test_database_away.py",
    "tests/duvo/test_stack.py", "tests/duvo/test_pages_at_size.py", "tests/connections/test_oracles.py",
    "tests/tools/test_many_rows.py", "tests/field/oauth/test_wrong_types.py",
)  # fmt: skip
MADE_BY_MIGRATIONS = {"django_content_type", "auth_permission"}
PASSWORD = "correct horse battery staple"
# Who waits in vain is told after 2.5 s that the database does not answer; a busy machine may take longer. The product's
# own processes, with which that is tested, keep their patience.
if pool := settings.DATABASES["default"].get("OPTIONS", {}).get("pool"):
    pool["timeout"] = 10


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@dataclass
class House:
    """An organization with one person of each role."""

    tenant: Tenant
    admin: User
    member: User
    auditor: User

    def membership(self, user: User) -> Membership:
        return self.tenant.memberships.get(user=user)

    def connection(self, name: str = "Orders", url: str = "https://mcp.example.com/mcp", **more: object) -> Connection:
        slug = name.lower().replace(" ", "-")
        return Connection.objects.create(tenant=self.tenant, name=name, slug=slug, server_url=url, **more)

    def assignment(self, name: str = "Nightly orders", **more: object) -> Assignment:
        return Assignment.objects.create(tenant=self.tenant, name=name, owner=self.admin, **more)

    def token(self, assignment: Assignment | None = None) -> str:
        """A token of an assignment of this house, issued by its owner."""
        assignment = assignment or self.assignment()
        return AccessToken.issue(assignment=assignment, by=assignment.owner)[1]

    def member_token(self, user: User) -> str:
        """A token of one of its people."""
        return AccessToken.issue(membership=self.membership(user))[1]


def found(name: str) -> House:
    tenant = Tenant.objects.create(name=name)

    def person(role: str) -> User:
        user = User.objects.create_user(f"{role}@{name}.example", f"{role}@{name}.example", PASSWORD)
        Membership.objects.create(user=user, tenant=tenant, role=role)
        return user

    return House(tenant, person(Role.ADMIN), person(Role.MEMBER), person(Role.AUDITOR))


@pytest.fixture(autouse=True)
def _quick_passwords(settings: pytest.FixtureRequest) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """Caches of the call path know rows of the test before."""
    from tools import callers
    from tools.calls import offers

    callers.forget()
    offers.forget()
    heartbeats.seen.cache_clear()


@pytest.fixture(autouse=True, scope="session")
def _quick_clients() -> Iterator[None]:
    """Leave the layer of the static files out of Django's test client.

    Each new client would look through all 180 files, which took most of the time of most pages, and the layer is the
    only asynchronous one: each request would go to an event loop and back. `live_server_url` has it.
    """
    load = ClientHandler.load_middleware

    def load_without_files(handler: ClientHandler, is_async: bool = False) -> None:
        layers = [layer for layer in settings.MIDDLEWARE if not layer.startswith("servestatic.")]
        with override_settings(MIDDLEWARE=layers):
            load(handler, is_async)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientHandler, "load_middleware", load_without_files)
        yield


@pytest.fixture(autouse=True)
def _all_processes_seem_to_run() -> None:
    """Pages say what does not run, and in most tests nothing does; Redis is of this process alone."""
    key_holders.forget()
    tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
    with Redis.from_url(settings.REDIS_URL) as client:
        client.hset(heartbeats.HASH, mapping=dict.fromkeys(heartbeats.NAMES, tomorrow))
        client.delete(key_holders.SHOWN, key_holders.SINCE)


@pytest.fixture(autouse=True, scope="session")
def _quick_flush() -> Iterator[None]:
    """Empty only the tables that have rows after a test with threads, the audit log included.

    Django's TRUNCATE of every table takes eight times as long, and so does making the kinds of content and permissions
    anew, which are the same for ever. The triggers that keep the audit log as it is are put aside meanwhile: only the
    owner of the table can do that, and the product need not be it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connection.ops), "sql_flush", _sql_flush)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *_: None)
        yield


def _sql_flush(_: object, __: object, tables: list[str], **___: object) -> list[str]:
    names = [connection.ops.quote_name(table) for table in tables if table not in MADE_BY_MIGRATIONS]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {name})" for name in names))  # noqa: S608
        deletes = [f"DELETE FROM {name}" for (name,) in cursor.fetchall()]  # noqa: S608 - our own tables
    if connection.vendor == "postgresql":
        trigger = "ALTER TABLE connections_auditevent {} TRIGGER audit_events_are_append_only"
        return [trigger.format("DISABLE"), *deletes, "SET CONSTRAINTS ALL IMMEDIATE", trigger.format("ENABLE")]
    triggers = import_module("connections.migrations.0001_initial").SQLITE
    return ["DROP TRIGGER audit_events_are_append_only_delete", *deletes, triggers[1]]


@pytest.fixture
def time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page says something else because a minute has passed, or midnight."""
    moment = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: moment)


@pytest.fixture
def no_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process that there is has shown its keys by now: one that nobody has is lost."""
    with Redis.from_url(settings.REDIS_URL) as client:
        client.set(key_holders.SINCE, 1)
    monkeypatch.setattr(key_holders, "_began", 1.0)
    key_holders.forget()


@pytest.fixture
def acme(db: None) -> House:
    return found("acme")


@pytest.fixture
def rival(db: None) -> House:
    return found("rival")


@pytest.fixture
def reviewer(db: None) -> User:
    return User.objects.create_user("reviewer@duvo.example", "reviewer@duvo.example", PASSWORD, is_reviewer=True)


@pytest.fixture
def superuser(db: None) -> User:
    return User.objects.create_superuser("root@duvo.example", "root@duvo.example", PASSWORD)


ActIn = Callable[[Tenant], Client]


@pytest.fixture
def act_in(superuser: User, signed_in: Callable[[User | None], Client]) -> ActIn:
    """A browser of a superuser who acts in this organization."""

    def act(tenant: Tenant) -> Client:
        client = signed_in(superuser)
        page = f"/admin/connections/tenant/{tenant.pk}/act/"
        assert client.post(page, {"reason": "They asked for help"}).status_code == 302
        return client

    return act


@pytest.fixture
def signed_in() -> Callable[[User | None], Client]:
    """A browser of this person; of nobody for None."""

    def sign_in(user: User | None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return sign_in

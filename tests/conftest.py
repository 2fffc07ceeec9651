"""The cast: acme with its people, rival with theirs, a reviewer of the platform, and nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

import hypothesis
import pytest
from django.db import connection
from django.test import Client

from connections.models import Connection, Membership, Role, Tenant, User
from tools.models import AccessToken, Assignment

# Examples are made as slowly as a busy machine makes them; that says nothing of the code.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

pytest_plugins = ["tests.servers.fixtures", "tests.live", "tests.processes", "tests.reading"]

PASSWORD = "correct horse battery staple"


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


@pytest.fixture(autouse=True)
def _flushable_audit_events(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the flush after a test with threads be: it is the TRUNCATE, on SQLite the DELETE, that the audit log forbids.

    Only the owner of the table can do that, and the product need not be it.
    """
    marker = request.node.get_closest_marker("django_db")
    if "transactional_db" not in request.fixturenames and not (marker and marker.kwargs.get("transaction")):
        yield
        return
    request.getfixturevalue("transactional_db")
    close, open_ = _doors_of_the_flush()
    with connection.cursor() as cursor:
        for statement in close:
            cursor.execute(statement)
    yield
    with connection.cursor() as cursor:
        cursor.execute(open_)


def _doors_of_the_flush() -> tuple[list[str], str]:
    """What forbids the flush, and what lets it be."""
    if connection.vendor == "postgresql":
        trigger = "TRIGGER audit_events_are_not_truncated"
        table = "ALTER TABLE connections_auditevent"
        return [f"{table} ENABLE {trigger}"], f"{table} DISABLE {trigger}"
    triggers = import_module("connections.migrations.0001_initial").SQLITE
    close = [trigger.replace("CREATE TRIGGER", "CREATE TRIGGER IF NOT EXISTS") for trigger in triggers]
    return close, "DROP TRIGGER audit_events_are_append_only_delete"


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


@pytest.fixture
def signed_in() -> Callable[[User | None], Client]:
    """A browser of this person; of nobody for None."""

    def sign_in(user: User | None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return sign_in

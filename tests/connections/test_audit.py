"""The audit log only grows."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from connections import audit
from connections.models import AuditEvent
from tests.conftest import House

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
    "change",
    ["UPDATE connections_auditevent SET actor = 'somebody else'", "DELETE FROM connections_auditevent"],
)
def test_the_database_itself_forbids_to_change_what_was_written(acme: House, change: str) -> None:
    event = audit.record(acme.admin, "connection.created", acme.connection(), tenant=acme.tenant)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)
    assert AuditEvent.objects.get().actor == event.actor == acme.admin.get_username()


@pytest.mark.parametrize("tables", ["connections_auditevent", "connections_tenant, connections_auditevent CASCADE"])
def test_nor_can_the_log_be_emptied_at_once(transactional_db: None, acme: House, tables: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite knows no TRUNCATE: there it is a DELETE.")
    audit.record(acme.admin, "connection.created", acme.tenant, tenant=acme.tenant)
    with connection.cursor() as cursor, pytest.raises(DatabaseError, match="append-only"):
        cursor.execute(f"TRUNCATE {tables}")
    assert AuditEvent.objects.count() == 1


def test_an_event_outlives_the_organization_and_the_person_it_speaks_of(acme: House) -> None:
    row = acme.connection()
    audit.record(acme.admin, "connection.created", row, tenant=acme.tenant)
    acme.admin.delete()
    acme.tenant.delete()
    event = AuditEvent.objects.get()
    assert (event.actor, event.object_label, event.object_id) == ("admin@acme.example", "Orders", str(row.pk))

"""Its admins say how long an organization keeps its calls and waits for decisions; its share is the platform's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.http import HttpResponse
from django.test import Client

from connections.models import AuditEvent, Tenant, User
from tests.conftest import House

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


def page(house: House) -> str:
    return f"/admin/connections/tenant/{house.tenant.pk}/change/"


def save(client: Client, house: House, **members: str) -> HttpResponse:
    kept = {"name": house.tenant.name, "webhook_url": "", "retention_days": "30", "decision_hours": "24"}
    return client.post(page(house), {**kept, **members})


def bounds(house: House) -> tuple[int, int, int]:
    return Tenant.objects.values_list("retention_days", "decision_hours", "max_concurrency").get(pk=house.tenant.pk)


def test_an_admin_sets_how_long_calls_are_kept_and_wait_and_it_is_audited(acme: House, signed_in: SignedIn) -> None:
    assert save(signed_in(acme.admin), acme, retention_days="7", decision_hours="48").status_code == 302
    assert bounds(acme) == (7, 48, 1000)
    event = AuditEvent.objects.get(action="tenant.changed")
    assert event.actor == acme.admin.username
    assert event.data["fields"] == ["Days that calls are kept", "Hours to decide or answer"]
    assert event.data["changes"] == {"retention_days": [30, 7], "decision_hours": [24, 48]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retention_days", "0"),
        ("retention_days", "3651"),
        ("retention_days", ""),
        ("retention_days", "1.5"),
        ("decision_hours", "0"),
        ("decision_hours", "721"),
    ],
)
def test_a_number_out_of_bounds_is_refused_on_the_page(
    field: str, value: str, acme: House, signed_in: SignedIn
) -> None:
    answer = save(signed_in(acme.admin), acme, **{field: value})
    assert answer.status_code == 200
    assert list(answer.context["adminform"].form.errors) == [field]
    assert bounds(acme) == (30, 24, 1000)


def test_only_superusers_change_how_many_calls_run_at_once(acme: House, signed_in: SignedIn, superuser: User) -> None:
    admin = signed_in(acme.admin)
    assert save(admin, acme, max_concurrency="5000").status_code == 302
    assert bounds(acme) == (30, 24, 1000)
    assert "At most 1000 at once" in admin.get(page(acme)).content.decode()
    assert save(signed_in(superuser), acme, max_concurrency="5000").status_code == 302
    assert bounds(acme) == (30, 24, 5000)


def test_members_and_auditors_see_the_bounds_and_change_none(acme: House, signed_in: SignedIn) -> None:
    for person in (acme.member, acme.auditor):
        seen = signed_in(person).get(page(acme)).content.decode()
        assert "<dt>Days that calls are kept</dt><dd>30</dd>" in seen
        assert save(signed_in(person), acme, retention_days="1").status_code == 403
    assert bounds(acme) == (30, 24, 1000)


def test_a_rivals_admin_finds_no_such_page(acme: House, rival: House, signed_in: SignedIn) -> None:
    assert save(signed_in(acme.admin), acme, retention_days="7").status_code == 302
    assert save(signed_in(rival.admin), acme, retention_days="1").status_code == 404
    assert bounds(acme) == (7, 24, 1000)

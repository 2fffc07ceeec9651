"""The History pages say in words what happened."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape

import pytest
from django.test import Client
from django.utils.html import strip_tags

from connections import audit
from connections.models import Membership, Tenant, User
from tests.conftest import House
from tests.connections.estate import Estate, rows

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]


def words(client: Client, path: str) -> str:
    return " ".join(unescape(strip_tags(client.get(path).content.decode().replace("<", " <"))).split())


def test_details_are_words_whatever_they_are(acme: House, estate: Estate, superuser: User, signed_in: SignedIn) -> None:
    details = {
        "reason": "too dear", "prefix": "duvo_abc", "count": 500, "shared": True, "fields": ["max_rate", "server_url"],
        "names": {"first": ["a", "b"]}, "nothing": None,
    }  # fmt: skip
    for model, row in rows(acme, estate).items():
        if model.__name__ != "AuditEvent":
            tenant = None if model is User else acme.tenant
            audit.record(
                acme.admin, f"{model._meta.model_name}.token_issued", row, tenant=tenant, outcome="x_y", **details
            )
            viewer = acme.admin if model.__name__ == "AccessToken" else superuser
            path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/{row.pk}/history/"
            told = words(signed_in(viewer), path)
            assert "Token issued (x y)" in told, path
            for detail in ("Reason: too dear", "Prefix: duvo_abc", "Count: 500", "Shared: yes", "Names: first: a, b"):
                assert f" {detail} " in f"{told} ", path
            assert "Nothing:" not in told


def test_fields_are_called_as_on_the_page(acme: House, estate: Estate, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    connection = f"/admin/connections/connection/{estate.connection.pk}"
    client.post(
        f"{connection}/change/", {"name": "Stock", "server_url": "https://8.8.8.8/mcp", "authorization": "none"}
    )
    told = words(client, f"{connection}/history/")
    assert "Changed Fields: name, server URL, enabled" in told
    tenant = Tenant.objects.get(pk=acme.tenant.pk)
    client.post(
        f"/admin/connections/tenant/{tenant.pk}/change/",
        {"name": "acme", "retention_days": "9", "decision_hours": "24"},
    )
    told = words(client, f"/admin/connections/tenant/{tenant.pk}/history/")
    assert "Changed Fields: " in told
    assert "Days that calls are kept" in told
    member = Membership.objects.get(user=acme.member)
    client.post(f"/admin/connections/membership/{member.pk}/change/", {"role": "auditor"})
    assert "Changed Fields: Role" in words(client, f"/admin/connections/membership/{member.pk}/history/")

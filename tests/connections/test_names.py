"""Names of organizations tell nothing of others, and names that look alike are told apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db.models import ForeignKey, UniqueConstraint
from django.test import Client
from django.utils.html import escape

from connections import names
from connections.models import Connection, Tenant, User
from tests.conftest import House, found
from tests.connections import oracles
from tests.connections.estate import body
from tools.models import AccessToken, Assignment

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
BOUNDS = {"retention_days": "30", "decision_hours": "24", "webhook_url": ""}
ALIKE = [
    "acme",
    "ACME",
    "ＡＣＭＥ",
    "Açme",
    "Ac\N{CYRILLIC SMALL LETTER EM}e",
    "\N{GREEK CAPITAL LETTER ALPHA}CME",
    "АСМЕ",
    "ACМE",
    "𝐀𝐂𝐌𝐄",
    "ᴀᴄᴍᴇ",
]
UNSEEN = [
    0x00AD, 0x034F, 0x061C, 0x115F, 0x180E, 0x200B, 0x200D, 0x200E, 0x202E, 0x2060, 0x2066, 0x2800, 0x3164, 0xFE0F,
    0xFEFF, 0xFFA0, 0xE0041, 0x0007, 0x007F, 0xE000,
]  # fmt: skip


def rename(client: Client, tenant: Tenant, name: str) -> Any:
    return client.post(f"/admin/connections/tenant/{tenant.pk}/change/", {"name": name, **BOUNDS})


MARK = re.compile(r"&quot;[0-9a-f]{20}&quot;")  # a page's keyed marks of what it shows: they differ with the name


def test_renaming_is_answered_alike_whether_the_name_is_taken_or_not(
    acme: House, rival: House, signed_in: SignedIn
) -> None:
    client = signed_in(rival.admin)
    for name in ("acme", "ACME", "nobody's"):
        with oracles.undone():
            answer = rename(client, rival.tenant, name)
            assert (answer.status_code, answer.headers.get("Location")) == (302, answer.request["PATH_INFO"])
            page = MARK.sub("", body(client.get(answer.request["PATH_INFO"]))).replace(escape(name), "NAME")
            with oracles.undone():
                free = rename(client, rival.tenant, "free")
                other = MARK.sub("", body(client.get(free.request["PATH_INFO"])))
                assert page == other.replace("free", "NAME")
    rename(client, rival.tenant, "acme")
    rival.tenant.refresh_from_db()
    assert (rival.tenant.name, rival.tenant.slug) == ("acme", "rival")


def test_organizations_that_look_alike_have_slugs_that_do_not() -> None:
    slugs = [Tenant.objects.create(name=name).slug for name in ALIKE]
    assert slugs == ["acme", *(f"acme-{number}" for number in range(2, len(ALIKE) + 1))]
    assert [Tenant.objects.create(name=name).slug for name in ("東京", "大阪", "x" * 100, "x" * 99)] == [
        "dongjing", "daban", "x" * 40, "x" * 38 + "-2",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_what_looks_alike_is_folded_to_the_same(name: str) -> None:
    assert names.folded(name) == "acme"
    assert names.folded("\N{ZERO WIDTH SPACE}".join(name)) == "acme"


def test_only_who_sees_every_organization_is_shown_slugs(
    acme: House, reviewer: User, superuser: User, signed_in: SignedIn
) -> None:
    acme.connection()
    second = found("ACME")
    second.connection()
    for who in (reviewer, superuser):
        lists = signed_in(who).get("/admin/connections/connection/").content.decode()
        assert "acme (acme)" in lists
        assert "ACME (acme-2)" in lists
    page = signed_in(reviewer).get(f"/admin/connections/connection/{second.tenant.connections.get().pk}/change/")
    assert "ACME (acme-2)" in page.content.decode()
    own = signed_in(second.admin)
    tenant, connection = second.tenant.pk, second.tenant.connections.get().pk
    for path in (
        "",
        "connections/tenant/",
        f"connections/tenant/{tenant}/change/",
        f"connections/connection/{connection}/change/",
    ):
        assert "acme-2" not in own.get(f"/admin/{path}").content.decode()
    assert "acme-2" in signed_in(superuser).get("/admin/connections/tenant/").content.decode()
    assert "acme-2" in signed_in(superuser).get(f"/admin/connections/tenant/{tenant}/change/").content.decode()
    assert "ACME (acme-2)" in signed_in(superuser).get("/admin/connections/membership/").content.decode()


@pytest.mark.parametrize("code", UNSEEN, ids=hex)
def test_what_nobody_sees_is_refused_in_every_name(
    code: int, acme: House, superuser: User, signed_in: SignedIn
) -> None:
    name, sentence = f"acme{chr(code)}x", f"invisible character (U+{code:04X})"
    client = signed_in(acme.admin)
    assignment = acme.assignment()
    forms = {
        f"connections/tenant/{acme.tenant.pk}/change/": {"name": name, **BOUNDS},
        "connections/connection/add/": {"name": name, "server_url": "https://8.8.8.8/mcp", "authorization": "none"},
        f"tools/assignment/{assignment.pk}/change/": {"name": name, "scope": "all"},
        "tools/accesstoken/add/": {"label": name, "membership": acme.membership(acme.admin).pk},
    }
    for path, data in forms.items():
        assert (
            sentence in client.get(f"/admin/{path}").content.decode()
            or sentence in client.post(f"/admin/{path}", data).content.decode()
        ), path
    told = client.post(f"/admin/tools/assignment/{assignment.pk}/tokens/", {"label": name}, follow=True)
    assert sentence in told.content.decode()
    staff = signed_in(superuser)
    password = {"password1": "correct horse battery", "password2": "correct horse battery", "usable_password": "true"}
    sentence = "invisible character"  # in names to sign in with it may have become another one by then (NFKC)
    assert sentence in staff.post("/admin/connections/user/add/", {"username": name, **password}).content.decode()
    person = f"/admin/connections/user/{acme.member.pk}/change/"
    assert sentence in staff.post(person, {"username": "x", "first_name": name}).content.decode()
    assert sentence in staff.post(person, {"username": name}).content.decode()
    assert not Connection.objects.exists()
    assert not AccessToken.objects.exists()
    assert Assignment.objects.get().name == assignment.name
    assert Tenant.objects.filter(name="acme").exists()


def test_spaces_of_every_kind_become_plain_ones(acme: House, signed_in: SignedIn) -> None:
    rename(signed_in(acme.admin), acme.tenant, " ACME\N{NO-BREAK SPACE}\N{EM SPACE} Ltd\n")
    acme.tenant.refresh_from_db()
    assert acme.tenant.name == "ACME Ltd"


def test_a_program_is_told_of_an_invisible_character_too(acme: House) -> None:
    sent = {"name": "Orders\u200b", "server_url": "https://8.8.8.8/mcp"}
    token = acme.member_token(acme.admin)
    headers = {"Authorization": f"Bearer {token}"}
    answer = Client().post("/v1/connections", sent, content_type="application/json", headers=headers)
    assert answer.status_code == 422
    assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [("/name", "invisible")]


def test_nothing_is_unique_over_all_organizations_but_what_chance_or_staff_chose() -> None:
    """What is unique tells who takes it that somebody has it: only within one organization, or by who sees all."""
    ours_or_random = {
        ("connections", "Tenant", "slug"), ("connections", "User", "username"), ("tools", "AccessToken", "digest"),
        ("oauth", "PendingAuthorization", "state_digest"), ("connections", "Invitation", "digest"),
        ("connections", "BrowserSession", "key"), ("connections", "MailDomain", "name"),
        ("connections", "Company", "tenant"),
    }  # fmt: skip
    found_over_all = set()
    for model in apps.get_models():
        if model._meta.app_label not in oracles.ROOMS:
            continue
        owners = {field.name for field in model._meta.fields if isinstance(field, ForeignKey)} - {"user", "owner"}
        for field in model._meta.fields:
            if field.unique and not field.primary_key:
                found_over_all.add((model._meta.app_label, model.__name__, field.name))
        for constraint in model._meta.constraints:
            if isinstance(constraint, UniqueConstraint):
                columns = set(constraint.fields) | {str(expression) for expression in constraint.expressions}
                within = any(owner in column for owner in owners | {"call"} for column in columns)  # ids are random
                assert within, f"{model.__name__}: {constraint.name}"
    assert found_over_all == ours_or_random

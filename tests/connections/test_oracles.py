"""No query string tells anything of a row or column that the person who asks may not see."""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from connections.audit_filters import EventsFilter
from connections.models import Connection, Credential, Membership, Tenant, User
from oauth.models import Discovery, Registration, SignIn
from oauth.protocol.choices import ClientKind
from tests.conftest import House
from tests.connections import oracles
from tests.connections.estate import Estate, never_was, rows, settle
from tools.models import AccessToken, Assignment, Call, DailyUse, Probe, Tool, ToolVersion
from tools.models.assignments import digest_of

pytestmark = pytest.mark.django_db

World = dict[str, Any]
SignedIn = Callable[[User | None], Client]
ASKERS = ("acme's admin", "acme's member", "acme's auditor", "rival's admin", "of both", "reviewer", "superuser")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of refusals are wanted here; a log line of each takes longer than the refusal."""
    monkeypatch.setattr(logging.getLogger("django.request"), "disabled", True)
    for refusal in ("Lookup", "ToField"):
        monkeypatch.setattr(logging.getLogger(f"django.security.DisallowedModelAdmin{refusal}"), "disabled", True)


@pytest.fixture
def world(acme: House, rival: House, estate: Estate, cast: dict[str, User | None]) -> World:
    """Two houses with one row of everything, long enough ago for no page to say how many seconds it is."""
    other = settle(rival, "rival-only")
    for house, mine in ((acme, estate), (rival, other)):
        _sign_in(house, mine.connection)
        mine.assignment.instructions = f"{house.tenant.name} tells its agent"
        mine.assignment.save()
    past = timezone.now() - timedelta(days=2, hours=7)
    Connection.objects.update(credential_since=past, reachability_since=past, tools_since=past, probed_at=past)
    Call.objects.update(created_at=past)
    Probe.objects.update(started_at=past)
    return {
        "acme's admin": acme.admin, "acme's member": acme.member, "acme's auditor": acme.auditor,
        "rival's admin": rival.admin, "reviewer": cast["reviewer"], "superuser": cast["superuser"],
        "houses": ((acme, estate), (rival, other)),
    }  # fmt: skip


def _sign_in(house: House, connection: Connection) -> None:
    Credential(connection=connection, kind=Credential.Kind.API_KEY).set(f"{house.tenant.name}-key", by=house.admin)
    issuer = f"https://{house.tenant.name}.example.com"
    Discovery.objects.create(connection=connection, server_url=issuer, sentence=house.tenant.name)
    known = Registration.objects.create(
        connection=connection,
        issuer=issuer,
        redirect_uri=issuer,
        kind=ClientKind.DCR,
        client_id=house.tenant.name,
    )
    SignIn.objects.create(
        connection=connection, registration=known, person=house.admin, server_url=issuer, server={"issuer": issuer}
    )
    ToolVersion.objects.create(tool=connection.tools.get(), digest="d" * 64, definition={})


def _ids(world: World, user: User) -> dict[type[Model], list[object]]:
    """For each list the keys of rows that this person does not see, and of none."""
    estates = [rows(house, estate) for house, estate in world["houses"]]
    return {
        model: [
            *(mine[model].pk for mine in estates if not _belongs(user, mine[Tenant].pk)), never_was(estates[0][model])
        ]
        for model in admin.site._registry
    }  # fmt: skip


def _belongs(user: User, tenant_id: object) -> bool:
    return user.is_superuser or tenant_id in user.roles


def _searches(world: World) -> list[str]:
    words = []
    for house, estate in world["houses"]:
        words += [
            house.tenant.name, house.admin.password[:12], house.admin.email, estate.assignment.instructions,
            estate.connection.server_url, estate.own_token.digest[:8], estate.call.error_sentence,
        ]  # fmt: skip
    return [urlencode({"q": word}) for word in words]


def _of_the_attack(acme: House, rival: House, world: World) -> list[str]:
    """What the attack asked, word for word but for the values."""
    orders = world["houses"][0][1]
    asked = {
        "tools/tool": {
            "connection__tenant__memberships__user__password__gte": acme.admin.password,
            "connection__tenant__assignments__instructions__startswith": orders.assignment.instructions,
        },
        "tools/call": {
            "assignment__owner__password__gte": acme.admin.password,
            "connection__tenant__memberships__user__password__gte": acme.admin.password,
            "connection__created_by__memberships__tenant__connections__server_url__startswith": "https://acme-only",
        },
        "tools/probe": {
            "connection__tenant__memberships__user__password__startswith": acme.admin.password[:9],
            "connection__tenant__webhook_url__startswith": "https://localhost",
            "connection__tenant__memberships__user__memberships__tenant__assignments__instructions__gte": "acme",
        },
        "tools/assignment": {"owner__password__gte": acme.admin.password},
        "connections/connection": {
            "tenant__memberships__user__password__gte": acme.admin.password,
            "credentials__sealed__gte": "v",
        },
    }
    return [
        f"/admin/{place}/?{urlencode({name: value})}" for place, query in asked.items() for name, value in query.items()
    ]


@pytest.mark.usefixtures("quiet", "time_stands_still")
@pytest.mark.parametrize("who", ASKERS)
def test_no_query_string_changes_an_answer_by_what_is_not_seen(
    who: str, acme: House, rival: House, world: World, signed_in: SignedIn
) -> None:
    user = oracles.both(rival.admin, acme.tenant) if who == "of both" else world[who]
    turn = ASKERS.index(who)
    hidden, searches = _ids(world, user), _searches(world)
    addresses = _of_the_attack(acme, rival, world)
    for model in admin.site._registry:
        refused = [*oracles.lookups(model), *oracles.dates(model)]
        shown = [*oracles.orders(model), *searches, *oracles.filters(model, user, hidden[model]), *oracles.switches()]
        asked = [*refused[turn :: len(ASKERS)], *shown[turn % 6 :: 6]]
        addresses += [f"{oracles.address(model)}?{query}" for query in asked]
    addresses += ["/admin/autocomplete/?app_label=tools&model_name=call&field_name=assignment&term=a"]

    def everything(asked: list[str]) -> dict[str, oracles.Answer]:
        client = signed_in(User.objects.get(pk=user.pk))
        answers = oracles.ask(client, asked)
        for model in admin.site._registry:
            answers |= oracles.act(client, model, hidden[model])
        return answers

    before = everything(addresses)
    assert oracles.change_what_is_hidden(user) > 25  # from a superuser little is hidden
    # A refusal is decided by names, before rows are read: that it is the same again is asked of one in eight.
    told = [one for number, one in enumerate(addresses) if before[one][0] < 400 or number % 8 == 0]
    after = everything(told)
    assert [one for one in after if before[one] != after[one]] == []
    assert len(told) > len(addresses) / 8


@pytest.mark.usefixtures("quiet", "time_stands_still")
@pytest.mark.parametrize("who", ["member", "assignment"])
def test_no_query_string_of_the_api_does_either(who: str, rival: House, world: World) -> None:
    (_, theirs), (_, mine) = world["houses"]
    token = rival.member_token(rival.admin) if who == "member" else rival.token(mine.assignment)
    forged = [
        f"{way}p={value}" for way in ("", "r=1&", "o=1&") for value in ("acme", "2020-01-01 00:00:00%2B00:00", "0")
    ]
    cursors = [urlencode({"cursor": b64encode(one.encode()).decode()}) for one in forged]
    queries = [
        *cursors, "limit=1", "ordering=-name", "search=acme", "fields=password", "expand=tenant", "state=failed",
        f"tool={theirs.tool.public_name}", f"tenant={theirs.connection.tenant_id}",
        f"connection={theirs.connection.pk}",
    ]  # fmt: skip
    lists: dict[str, type[Model]] = {
        "tools": Tool, "calls": Call, "connections": Connection, "assignments": Assignment,
    }  # fmt: skip
    addresses = [f"/v1/connections/{theirs.connection.pk}", f"/v1/tools/{theirs.tool.public_name}"]
    addresses += [f"/v1/assignments/{theirs.assignment.pk}{rest}" for rest in ("", "/tokens")]
    for name, model in lists.items():
        addresses += [f"/v1/{name}?{query}" for query in [*queries, *oracles.lookups(model)[::20], *_searches(world)]]
    client = Client(headers={"Authorization": f"Bearer {token}"})
    before = oracles.ask(client, addresses)
    key = AccessToken.objects.get(digest=digest_of(token)).pk
    assert oracles.change_what_is_hidden(rival.admin) > 50
    AccessToken.objects.filter(pk=key).update(digest=digest_of(token))  # or it would open nothing any more
    assert [one for one, after in oracles.ask(client, addresses).items() if before[one] != after] == []


def test_a_list_takes_exactly_what_its_filters_offer(
    acme: House, rival: House, world: World, signed_in: SignedIn
) -> None:
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role="admin")
    client = signed_in(acme.admin)
    for model, page in admin.site._registry.items():
        start = oracles.address(model)
        listed = client.get(start)
        if listed.status_code == 403 or model is DailyUse:  # its page is no list of rows
            continue
        links = set(re.findall(r'href="(\?[^"]+)"', listed.content.decode()))
        offered = {re.sub(r"=[^&]*", "", link): link for link in links if not re.match(r"\?(o|p|all)=", link)}
        assert bool(offered) == bool(page.list_filter), model
        for link in offered.values():  # one for each set of parameters
            assert client.get(start + unescape(link)).status_code == 200, link


def test_no_page_has_what_the_crawl_does_not_ask(acme: House) -> None:
    for model, page in admin.site._registry.items():
        assert page.date_hierarchy is None, f"{model}: its parameters are lookups that need rules of their own"
        assert page.show_facets == admin.ShowFacets.NEVER, model
        for entry in page.list_filter:  # a column, perhaps with a filter of its own, or a filter of no column
            ours = entry[1] if isinstance(entry, tuple) else entry
            known = admin.SimpleListFilter | admin.FieldListFilter | EventsFilter
            assert isinstance(ours, str) or issubclass(ours, known), entry
        for field in page.search_fields:
            assert "__" not in field or field in {"user__username", "connection__name"}, (
                f"{model}: {field} is not shown"
            )

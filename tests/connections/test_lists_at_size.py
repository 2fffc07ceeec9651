"""Lists of a platform with very many organizations and connections stay short, quick and findable."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connections import choices, filters
from connections.models import Connection, Membership, User
from connections.states import TROUBLE
from tests.conftest import ActIn, House
from tests.connections import crowd

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
LIST = "/admin/connections/connection/"


def listed(client: Client, address: str) -> str:
    return unescape(client.get(address).content.decode())


def names(page: str) -> list[str]:
    return re.findall(r'field-title"><a[^>]*>(.*?) <span', page)


@pytest.mark.parametrize("who", ["reviewer", "superuser"])
def test_lists_of_205_organizations_are_small_and_ask_little(
    who: str, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    some = crowd.gather(205, 1_358)[7]
    client = signed_in(cast[who])
    client.get(LIST)
    for address in (
        LIST, f"{LIST}?status=attention", f"{LIST}?q=Company+007", f"{LIST}?organization={some.tenant_id}",
        "/admin/tools/tool/", f"/admin/tools/tool/?connection__id__exact={some.pk}",
        "/admin/tools/tool/?connection_name=Server+0007", "/admin/tools/probe/",
    ):  # fmt: skip
        with CaptureQueriesContext(database) as asked:
            answer = client.get(address)
        assert answer.status_code == 200, address
        assert len(asked) < 20, (address, len(asked))
        assert len(answer.content) < 100_000, (address, len(answer.content))


def test_few_choices_are_links(superuser: User, acme: House, signed_in: SignedIn) -> None:
    client = signed_in(superuser)
    acme.connection("Orders", reachability_state="unreachable")
    assert 'href="?organization=' not in listed(client, LIST)  # one organization: nothing to choose
    crowd.gather(filters.LINKS - 1, 0)
    assert f'href="?organization={acme.tenant.pk}"' in listed(client, LIST)


def test_the_select_keeps_the_other_filters(superuser: User, acme: House, signed_in: SignedIn) -> None:
    crowd.gather(filters.LINKS + 1, 24)
    acme.connection("Orders", reachability_state="unreachable")
    client = signed_in(superuser)
    page = listed(client, f"{LIST}?status=attention&q=Or")
    form = page.partition('<form method="get" class="filter"')[2].partition("</form>")[0]
    assert "?organization=" not in page
    assert form.count("<option") == filters.LINKS + 3
    assert '<input type="hidden" name="status" value="attention">' in form
    assert '<input type="hidden" name="q" value="Or">' in form
    chosen = listed(client, f"{LIST}?organization={acme.tenant.pk}&status=attention")
    assert names(chosen) == ["Orders"]
    assert f'<option value="{acme.tenant.pk}" selected>' in chosen
    assert len(names(listed(client, f"{LIST}?organization="))) == 25


def test_very_many_choices_are_found_by_a_part_of_their_name(
    acme: House, rival: House, superuser: User, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "LINKS", 1)
    monkeypatch.setattr(filters, "OPTIONS", 2)
    for house in (acme, rival):
        for name in ("Orders", "Stock", "Calendar"):
            found = house.connection(f"{house.tenant.name} {name}")
            found.tools.create(name="find", public_name=f"{found.slug}__find", definition={}, digest="d" * 64)
    client = signed_in(acme.admin)
    tools = "/admin/tools/tool/"
    assert 'name="connection_name"' in listed(client, tools)
    for part, count in (("stock", 1), ("acme", 3), ("rival", 0), ("", 3)):
        assert listed(client, f"{tools}?connection_name={part}").count('<th class="field-') == count, part
    stock = Connection.objects.get(name="acme Stock")
    assert "<span>acme Stock</span>" in listed(client, f"{tools}?connection__id__exact={stock.pk}")
    assert client.get(f"{tools}?connection__id__exact=x").status_code == 302
    crowd.gather(3, 0)
    everywhere = signed_in(superuser)
    assert len(names(listed(everywhere, f"{LIST}?organization=ACM"))) == 3
    assert names(listed(everywhere, f"{LIST}?organization=nobody")) == []


def test_what_needs_attention_is_one_filter_for_everybody(acme: House, signed_in: SignedIn) -> None:
    for number, states in enumerate(crowd.STATES):
        acme.connection(f"Server {number}", **states)
    off = acme.connection("Off", enabled=False, reachability_state="unreachable")
    for user in (acme.admin, acme.member, acme.auditor):
        assert sorted(names(listed(signed_in(user), f"{LIST}?status=attention"))) == ["Server 3", "Server 4"]
    rows = [row for row in Connection.objects.all() if row.headline in TROUBLE]
    assert len(rows) == 2
    assert off not in rows


def test_staff_see_the_newest_trouble_first_and_find_by_organization(
    acme: House, cast: dict[str, User | None], signed_in: SignedIn
) -> None:
    crowd.gather(3, 12)
    reviewer = signed_in(cast["reviewer"])
    troubled = ["Server 0003", "Server 0004", "Server 0009", "Server 0010"]
    assert names(listed(reviewer, LIST))[:5] == [*troubled, "Server 0000"]
    assert len(names(listed(reviewer, f"{LIST}?q=company+002"))) == 4
    Membership.objects.create(user=acme.admin, tenant=Connection.objects.earliest("name").tenant, role="member")
    member = signed_in(User.objects.get(pk=acme.admin.pk))
    assert names(listed(member, LIST)) == ["Server 0000", "Server 0003", "Server 0006", "Server 0009"]
    assert names(listed(member, f"{LIST}?q=company+000")) == []


def test_filters_are_called_as_people_call_them(acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    for page, words in (("tools/call", "Created"), ("tools/probe", "Started"), ("tools/assignment", "May use")):
        text = client.get(f"/admin/{page}/").content.decode()
        assert f"<summary>{words}</summary>" in text, page
        assert not re.search(r"By (at|created at|started at|may use)\b", text), page
    trail = client.get("/admin/connections/auditevent/").content.decode()
    assert not re.search(r"By (at|created at|started at)\b", trail)


def test_who_and_where_are_named_in_forms_where_a_select_would_have_too_many(
    acme: House, rival: House, superuser: User, signed_in: SignedIn, act_in: ActIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "MOST", 1)
    client, address = act_in(acme.tenant), "/admin/connections/membership/add/"
    page = client.get(address).content.decode()
    assert superuser.username not in page.partition('name="role"')[0].partition('name="tenant"')[2]
    assert "The name that the person signs in with." in page
    sent = {"user": "nobody", "tenant": str(acme.tenant.pk), "role": "auditor"}
    assert "There is none with this name." in client.post(address, sent).content.decode()
    assert client.post(address, sent | {"user": superuser.username}).status_code == 302
    assert acme.membership(superuser).role == "auditor"
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role="admin")
    for form in ("tools/assignment", "connections/connection", "connections/invitation"):
        of_several, of_one = (
            signed_in(user).get(f"/admin/{form}/add/").content.decode() for user in (acme.admin, rival.admin)
        )
        assert "Its short name" in of_several, form
        assert "Its short name" not in of_one, form

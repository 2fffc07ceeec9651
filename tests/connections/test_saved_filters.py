"""People save the filters of a list under a name: of their own, for one organization, and only what the list takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.contrib import admin
from django.db import connection as database
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connections import saved_filters
from connections.models import Membership, SavedFilter, User
from tests.conftest import ActIn, House

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
LIST = "/admin/connections/connection/"
SAVE = "/admin/saved-filters/"
PAGE = "connections.connection"


def save(client: Client, name: str = "Broken", query: str = "status=attention", page: str = PAGE) -> HttpResponse:
    answer: HttpResponse = client.post(SAVE, {"page": page, "name": name, "query": query})
    return answer


def shown(client: Client, path: str = LIST) -> dict[str, str]:
    """The names on a list, with where each leads."""
    page = client.get(path).content.decode()
    part = re.search(r'<details class="saved-filters">.*?</details>', page, re.DOTALL)
    links = re.findall(r'<a class="breakable" href="([^"]+)"[^>]*>([^<]+)</a>', part[0]) if part else []
    return {unescape(name): unescape(address) for address, name in links}


def test_filters_are_saved_found_and_removed(acme: House, signed_in: SignedIn) -> None:
    acme.connection("Orders")
    acme.connection("Stock", reachability_state="unreachable")
    client = signed_in(acme.member)
    assert "saved-filters" not in client.get(LIST).content.decode(), "there is nothing to save, and nothing saved"
    page = client.get(f"{LIST}?status=unreachable&q=st").content.decode()
    form = re.search(r'name="query" value="([^"]+)"', page)
    assert form is not None
    answer = save(client, query=unescape(form[1]))
    assert answer["Location"] == f"{LIST}?status=unreachable&q=st"
    [(name, address)] = shown(client).items()
    assert name == "Broken"
    found = client.get(f"{LIST}{address}")
    assert [row.name for row in found.context["cl"].result_list] == ["Stock"]
    assert 'aria-current="true">Broken</a>' in found.content.decode()
    remove = f"{SAVE}{SavedFilter.objects.get().pk}/remove/"
    assert client.post(remove)["Location"] == LIST
    assert shown(client) == {}
    assert client.post(remove).status_code == 404


def test_the_same_name_is_replaced(acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    save(client)
    save(client, query="status=connected")
    assert shown(client) == {"Broken": "?status=connected"}


def test_nobody_else_sees_or_removes_them(
    acme: House, rival: House, superuser: User, reviewer: User, signed_in: SignedIn
) -> None:
    save(signed_in(acme.admin))
    pk = SavedFilter.objects.get().pk
    for user in (acme.member, acme.auditor, rival.admin, superuser, reviewer):
        other = signed_in(user)
        assert shown(other) == {}
        assert other.post(f"{SAVE}{pk}/remove/").status_code == 404
        assert other.post(f"{SAVE}{uuid4()}/remove/").status_code == 404
    assert shown(signed_in(acme.admin)) == {"Broken": "?status=attention"}


def test_each_organization_has_its_own(acme: House, rival: House, signed_in: SignedIn) -> None:
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role="member")
    client = signed_in(acme.admin)
    names = {"acme": acme.tenant.pk, "rival": rival.tenant.pk, "both": ""}
    for name, pk in names.items():
        client.post("/account/organization/", {"organization": str(pk)})
        save(client, name=f"Of {name}")
        save(client, name="Same")
    for name, pk in names.items():
        client.post("/account/organization/", {"organization": str(pk)})
        assert set(shown(client)) == {f"Of {name}", "Same"}


def test_who_leaves_leaves_none_behind(acme: House, signed_in: SignedIn) -> None:
    save(signed_in(acme.member))
    page = f"/admin/connections/membership/{acme.membership(acme.member).pk}/delete/"
    assert signed_in(acme.admin).post(page, {"post": "yes"}).status_code == 302
    assert not SavedFilter.objects.exists()


def test_staff_have_theirs_wherever_they_act(acme: House, superuser: User, act_in: ActIn, signed_in: SignedIn) -> None:
    save(signed_in(superuser))
    assert shown(act_in(acme.tenant)) == {"Broken": "?status=attention"}


ORACLES = [
    "tenant__memberships__user__password__startswith=a", "tenant__sealed_webhook_secret__startswith=x",
    "credentials__sealed__contains=x", "server_url__contains=key", "authorization__regex=.*", "p=2", "all=", "e=1",
    "_to_field=id", "_popup=1", "nothing=1",
]  # fmt: skip


@pytest.mark.parametrize("oracle", ORACLES)
def test_what_the_list_itself_does_not_take_is_not_saved(acme: House, signed_in: SignedIn, oracle: str) -> None:
    client = signed_in(acme.admin)
    answer = save(client, query=f"{oracle}&status=attention")
    assert answer["Location"] == f"{LIST}?status=attention"
    assert SavedFilter.objects.get().query == "status=attention"
    save(client, name="Nothing else", query=oracle)
    assert set(shown(client)) == {"Broken"}


@pytest.mark.parametrize("oracle", ORACLES)
def test_what_was_stored_is_looked_at_when_it_is_used(acme: House, signed_in: SignedIn, oracle: str) -> None:
    SavedFilter.objects.create(
        user=acme.admin, tenant=acme.tenant, page=PAGE, name="Old", query=f"{oracle}&status=attention"
    )
    assert shown(signed_in(acme.admin)) == {"Old": "?status=attention"}


def test_the_link_leads_nowhere_else(acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    for query in ("//evil.example/?status=attention", "status=attention#//evil.example", "status=attention\r\nX: y"):
        answer = save(client, query=query)
        assert urlsplit(answer["Location"]).netloc == ""
        assert "\n" not in answer["Location"]
        assert set(parse_qs(urlsplit(answer["Location"]).query)) <= {"status"}


def test_one_that_grows_beyond_its_column_by_its_escapes_is_refused(acme: House, signed_in: SignedIn) -> None:
    for letters, saved in (("é" * 100, True), ("é" * 900, False)):
        sent = {"page": "connections.connection", "query": f"q={letters}", "name": f"{len(letters)}"}
        assert signed_in(acme.admin).post("/admin/saved-filters/", sent).status_code == 302
        assert SavedFilter.objects.filter(name=sent["name"]).exists() == saved


def test_names_are_shown_as_they_are(acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    save(client, name="<b>Mine</b> & yours")
    assert "&lt;b&gt;Mine&lt;/b&gt; &amp; yours" in client.get(LIST).content.decode()
    for wrong in ("", " ", "x" * 61, "a\u202eb"):
        page = client.post(SAVE, {"page": PAGE, "name": wrong, "query": "status=attention"}, follow=True)
        assert "Nothing was saved. Give the filters a name." in page.content.decode()
    assert SavedFilter.objects.count() == 1


def test_a_list_that_one_may_not_see_takes_none(acme: House, signed_in: SignedIn) -> None:
    assert save(signed_in(acme.member), page="tools.call", query="q=x").status_code == 403
    for page in ("auth.group", "connections.staffvisit", "", "x" * 500):
        assert save(signed_in(acme.admin), page=page).status_code == 404


def test_there_is_an_end_to_them(acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    for number in range(saved_filters.MOST + 1):
        save(client, name=f"Number {number:02}")
    assert len(shown(client)) == SavedFilter.objects.count() == saved_filters.MOST
    save(client, name="Number 00", query="status=connected")
    assert shown(client)["Number 00"] == "?status=connected"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/admin/tools/tool/", "availability=review"), ("/admin/tools/call/", "q=orders"),
        ("/admin/connections/auditevent/", "q=renamed"), ("/admin/connections/membership/", "role__exact=admin"),
        ("/admin/tools/assignment/", "enabled__exact=1&o=-1"),
    ],
)  # fmt: skip
def test_every_list_has_them(acme: House, signed_in: SignedIn, path: str, query: str) -> None:
    acme.assignment()
    client = signed_in(acme.admin)
    page = ".".join(path.strip("/").split("/")[1:])
    assert save(client, query=query, page=page)["Location"] == f"{path}?{query}"
    assert shown(client, path) == {"Broken": f"?{query}"}
    assert client.get(f"{path}?{query}").status_code == 200


def test_lists_with_saved_filters_ask_little(acme: House, superuser: User, signed_in: SignedIn) -> None:
    faults = []
    for user in (acme.admin, superuser):
        client = signed_in(user)
        for model in admin.site._registry:
            path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
            save(client, query="q=x&o=1", page=model._meta.label_lower)
            client.get(path)
            with CaptureQueriesContext(database) as captured:
                client.get(path)
            asked = [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]
            if len(asked) > 20:
                faults.append((user.username, path, len(asked)))
    assert SavedFilter.objects.count() > 15
    assert faults == []

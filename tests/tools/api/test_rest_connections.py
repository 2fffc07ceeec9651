"""An organization's set-up, scripted: the admin's rules, faults named by pointers, no secret comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import House
from tests.connections.ssrf import REFUSED
from tests.live import Api
from tests.servers.fixtures import StartServer
from tests.servers.kinds import TOKEN
from tools.catalog import probing

MARK = "s3cret-m4rk"


def added(api: Api, url: str, **more: Any) -> dict[str, Any]:
    answer = api.post("/v1/connections", {"name": "Orders", "server_url": url, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@pytest.mark.smoke
def test_an_admins_token_adds_changes_probes_and_deletes(api: Api, acme: House, mcp_server: StartServer) -> None:
    api = api.as_(acme.member_token(acme.admin))
    server = mcp_server("behind 401")
    row = added(api, server.url, authorization="api_key", api_key="wrong")
    connection = acme.tenant.connections.get(pk=row["id"])
    assert (row["status"], row["slug"]) == ("checking", "orders")

    probing.probe(connection.pk)
    shown = api.get(f"/v1/connections/{row['id']}").json()
    assert (shown["status"], shown["credential"]["reason"]) == ("action_required", "unauthorized")
    assert shown["next_step"]

    assert api.request("PATCH", f"/v1/connections/{row['id']}", json={"api_key": TOKEN}).status_code == 200
    assert api.post(f"/v1/connections/{row['id']}/probe").status_code == 202
    probing.probe(connection.pk)
    assert api.get(f"/v1/connections/{row['id']}").json()["status"] == "connected"

    assert api.request("DELETE", f"/v1/connections/{row['id']}").status_code == 204
    assert not acme.tenant.connections.exists()
    actions = list(acme.tenant.audit_events.order_by("at").values_list("action", flat=True))
    assert actions == ["connection.created", "connection.changed", "connection.deleted"]


def test_a_change_keeps_what_it_leaves_out_secrets_included(api: Api, acme: House, open_egress: None) -> None:
    api = api.as_(acme.member_token(acme.admin))
    row = added(
        api, "http://127.0.0.1:9/mcp", authorization="headers", headers={"X-Key": MARK}, extra_headers={"X-Team": MARK},
        call_timeout=42, max_rate=60, send_trace=True,
    )  # fmt: skip
    assert MARK not in str(row)
    answer = api.request("PATCH", f"/v1/connections/{row['id']}", json={"name": "Renamed"})
    assert answer.status_code == 200, answer.text
    assert MARK not in answer.text
    connection = acme.tenant.connections.get(pk=row["id"])
    assert (connection.name, connection.slug, connection.call_timeout) == ("Renamed", "orders", 42)
    assert (connection.max_rate, connection.send_trace) == (60, True)
    assert dict(connection.request_headers()) == {"X-Key": MARK, "X-Team": MARK}
    assert api.request("PATCH", f"/v1/connections/{row['id']}", json={"max_rate": None}).status_code == 200
    assert acme.tenant.connections.get(pk=row["id"]).max_rate is None


def test_a_secret_does_not_follow_the_url_to_another_server(api: Api, acme: House, open_egress: None) -> None:
    api = api.as_(acme.member_token(acme.admin))
    row = added(api, "http://127.0.0.1:9/mcp", authorization="api_key", api_key=MARK)
    answer = api.request("PATCH", f"/v1/connections/{row['id']}", json={"server_url": "http://127.0.0.1:10/mcp"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/api_key"
    assert acme.tenant.connections.get().server_url == "http://127.0.0.1:9/mcp"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"server_url": "https://mcp.example.com/mcp"}, "/name"),
        ({"name": "Orders"}, "/server_url"),
        ({"name": "Orders", "server_url": "npx -y some-server"}, "/server_url"),
        ({"name": "Orders", "server_url": 7, "authorization": "magic"}, "/authorization"),
        ({"name": "Orders", "server_url": "https://x.invalid/mcp", "call_timeout": 10**9}, "/call_timeout"),
        ({"name": "Orders", "server_url": "https://x.invalid/mcp", "headers": {"Host": "x"}}, "/headers"),
        ({"name": "Orders", "server_url": "https://x.invalid/mcp", "headers": {"X-A": "b\r\nX-C: d"}}, "/headers"),
        ({"name": "Or\x00ders", "server_url": "https://x.invalid/mcp"}, "/name"),
    ],
)
def test_a_fault_has_a_sentence_and_a_pointer(
    api: Api, acme: House, settings: Any, body: dict[str, Any], pointer: str
) -> None:
    answer = api.as_(acme.member_token(acme.admin)).post("/v1/connections", body)
    assert answer.status_code == 422, answer.text
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert all(error["detail"] and error["code"] for error in answer.json()["errors"])
    assert not acme.tenant.connections.exists()


def is_text(value: str) -> bool:
    """Whether UTF-8 can carry it; a half of a surrogate pair it cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def test_no_spelling_of_a_private_address_gets_in(api: Api, acme: House, settings: Any) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = []
    api = api.as_(acme.member_token(acme.admin))
    let_in = []
    for url, _code in REFUSED:
        body = json.dumps({"name": "Orders", "server_url": url})  # in ASCII: some rows are no text that UTF-8 can carry
        headers = {"Content-Type": "application/json"}
        answer = api.request("POST", "/v1/connections", content=body, headers=headers)
        if answer.json()["code"] == "malformed" and not is_text(url):
            continue
        if answer.status_code != 422 or "/server_url" not in {error["pointer"] for error in answer.json()["errors"]}:
            let_in.append((url, answer.status_code))
    assert let_in == []
    assert len(REFUSED) >= 40
    assert not acme.tenant.connections.exists()


def test_a_duplicate_name_is_a_fault_and_a_rivals_name_is_not(
    api: Api, acme: House, rival: House, open_egress: None
) -> None:
    for house in (acme, rival):
        added(api.as_(house.member_token(house.admin)), "http://127.0.0.1:9/mcp")
    again = api.as_(acme.member_token(acme.admin)).post(
        "/v1/connections", {"name": "ORDERS", "server_url": "http://127.0.0.1:9/mcp"}
    )
    assert (again.status_code, again.json()["errors"][0]["pointer"]) == (422, "/name")


def test_an_admin_who_is_demoted_changes_nothing_with_an_old_token(api: Api, acme: House) -> None:
    api = api.as_(acme.member_token(acme.admin))
    connection = acme.connection()
    acme.tenant.memberships.filter(user=acme.admin).update(role="member")
    assert api.request("DELETE", f"/v1/connections/{connection.pk}").status_code == 403
    assert api.get(f"/v1/connections/{connection.pk}").status_code == 200


def test_pages_follow_a_cursor_to_the_end(api: Api, acme: House) -> None:
    for number in range(5):
        acme.connection(f"c{number}")
    api = api.as_(acme.member_token(acme.member))
    names, path = [], "/v1/connections?limit=2"
    while path:
        page = api.get(path).json()
        names += [row["name"] for row in page["results"]]
        path = "/" + page["next"].split("/", 3)[3] if page["next"] else ""
    assert names == [f"c{number}" for number in range(5)]

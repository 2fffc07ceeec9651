"""What programs send as settings of a connection: nothing is dropped in silence, and no secret is told to all."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import QueryDict

from connections import egress
from connections.forms import ConnectionForm
from tests.conftest import House
from tests.live import Api

MARK = "m4rk-0123456789abcdef"
URL = "http://127.0.0.1:9/mcp"
NEW = {"name": "Orders", "server_url": URL}

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("open_egress")]


@pytest.fixture
def admin(api: Api, acme: House) -> Api:
    return api.as_(acme.member_token(acme.admin))


def faults(answer: Any) -> dict[str, tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    assert MARK not in answer.text
    return {error["pointer"]: (error["code"], error["detail"]) for error in answer.json()["errors"]}


@pytest.mark.parametrize(
    ("member", "pointer", "code", "meant"),
    [
        ({"apikey": MARK}, "/apikey", "unknown_member", "api_key"),
        ({"apiKey": MARK}, "/apiKey", "unknown_member", "api_key"),
        ({"api-key": MARK}, "/api-key", "unknown_member", "api_key"),
        ({"token": MARK}, "/token", "unknown_member", "api_key"),
        ({"url": URL}, "/url", "unknown_member", "server_url"),
        ({"serverUrl": URL}, "/serverUrl", "unknown_member", "server_url"),
        ({"client_secret": MARK}, "/client_secret", "unknown_member", "oauth_client_secret"),
        ({"header": {"X-Key": MARK}}, "/header", "unknown_member", "headers"),
        ({"a/b~c": MARK}, "/a~1b~0c", "unknown_member", ""),
        ({"x" * 5_000: MARK}, "/" + "x" * 5_000, "unknown_member", ""),
        ({"era": "modern"}, "/era", "read_only", "leave it out"),
        ({"status": "connected"}, "/status", "read_only", "leave it out"),
        ({"id": 7}, "/id", "read_only", "leave it out"),
    ],
)
def test_a_member_that_cannot_be_set_is_named(
    admin: Api, acme: House, member: dict[str, Any], pointer: str, code: str, meant: str
) -> None:
    found = faults(admin.post("/v1/connections", {**NEW, **member}))
    assert found[pointer][0] == code
    assert meant in found[pointer][1]
    assert not acme.tenant.connections.exists()

    row = admin.post("/v1/connections", NEW).json()
    changed = admin.request("PATCH", f"/v1/connections/{row['id']}", json={"name": "Other", **member})
    assert faults(changed)[pointer][0] == code
    assert acme.tenant.connections.get().name == "Orders"


@pytest.mark.parametrize(
    ("sent", "pointer"),
    [
        ({"authorization": "none", "api_key": MARK}, "/api_key"),
        ({"authorization": "oauth", "api_key": MARK}, "/api_key"),
        ({"authorization": "api_key", "api_key": MARK, "headers": {"X-Key": MARK}}, "/headers"),
        ({"authorization": "api_key", "api_key": MARK, "oauth_client_id": "me"}, "/oauth_client_id"),
        ({"authorization": "headers", "headers": {"X": MARK}, "api_key_header": "X-Key"}, "/api_key_header"),
        ({"authorization": "none", "sharing": "personal"}, "/sharing"),
        ({"authorization": "none", "oauth_omit_resource": True}, "/oauth_omit_resource"),
        ({"api_key": MARK, "headers": {"X-Key": MARK}}, "/api_key"),  # which of the two is meant, nobody knows
        ({"api_key": MARK, "oauth_client_secret": MARK}, "/oauth_client_secret"),
    ],
)
def test_a_member_of_another_method_is_refused(admin: Api, acme: House, sent: dict[str, Any], pointer: str) -> None:
    code, sentence = faults(admin.post("/v1/connections", {**NEW, **sent}))[pointer]
    assert (code, pointer[1:] in sentence) == ("other_method", True)
    assert not acme.tenant.connections.exists()


@pytest.mark.parametrize(
    ("sent", "method"),
    [
        ({"api_key": MARK}, "api_key"),
        ({"api_key": MARK, "api_key_header": "X-Key"}, "api_key"),
        ({"headers": {"X-Key": MARK}}, "headers"),
        ({"oauth_client_id": "me", "oauth_client_secret": MARK}, "oauth"),
        ({"oauth_scopes": "read"}, "oauth"),
        ({"extra_headers": {"X-Team": MARK}}, "none"),
        ({"authorization": "none", "api_key_header": "", "sharing": "shared", "headers": {}}, "none"),
    ],
)
def test_a_secret_without_a_method_names_its_method(admin: Api, acme: House, sent: dict[str, Any], method: str) -> None:
    answer = admin.post("/v1/connections", {**NEW, **sent})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["authorization"], MARK in answer.text) == (method, False)

    plain = admin.post("/v1/connections", {**NEW, "name": "Plain"}).json()
    changed = admin.request("PATCH", f"/v1/connections/{plain['id']}", json=sent)
    assert changed.json()["authorization"] == method


def test_a_key_does_not_end_the_sign_in_of_a_connection_without_being_told_to(admin: Api, acme: House) -> None:
    row = admin.post("/v1/connections", {**NEW, "authorization": "oauth"}).json()
    path = f"/v1/connections/{row['id']}"
    assert faults(admin.request("PATCH", path, json={"api_key": MARK}))["/api_key"][0] == "other_method"
    assert admin.get(path).json()["authorization"] == "oauth"
    told = admin.request("PATCH", path, json={"api_key": MARK, "authorization": "api_key"})
    assert told.json()["authorization"] == "api_key"


def filled(house: House, **fields: Any) -> ConnectionForm:
    data = QueryDict(mutable=True)
    data.update({"name": "Orders", "server_url": URL, "authorization": "none", "enabled": "on", **fields})
    return ConnectionForm(data, tenant=house.tenant, user=house.admin)


@pytest.mark.parametrize(
    ("fields", "method"), [({"api_key": MARK}, "api_key"), ({"headers": f"X-Key: {MARK}"}, "headers")]
)
def test_on_the_form_too_a_secret_without_a_method_is_the_method(
    acme: House, fields: dict[str, Any], method: str
) -> None:
    form = filled(acme, **fields)
    assert form.is_valid(), form.errors
    connection = form.save()
    assert (connection.authorization, connection.credential_state) == (method, "ready")
    assert MARK in str(connection.request_headers())


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": "oauth", "api_key": MARK},
        {"authorization": "headers", "headers": "X: 1", "api_key": MARK},
        {"api_key": MARK, "headers": f"X-Key: {MARK}"},
    ],
)
def test_on_the_form_too_a_secret_of_another_method_is_not_dropped_in_silence(
    acme: House, fields: dict[str, Any]
) -> None:
    form = filled(acme, **fields)
    fault = form.errors.as_data()["authorization"][0]
    assert (fault.code, "API key" in fault.messages[0], MARK in str(form)) == ("other_method", True, False)


SECRETS = [
    f"?apiKey={MARK}", f"?api_key={MARK}", f"?a=1&API-KEY={MARK}", f"?token={MARK}", f"?access_token={MARK}",
    f"?key={MARK}", f"?code={MARK}", f"?tavilyApiKey={MARK}", f"?x-api-key={MARK}", f"?password={MARK}",
    f"?client_secret={MARK}", f"?api%5Fkey={MARK}", f"?profile=sk-{MARK}", f"/fc-{MARK}/v2", f"/u/ghp_{MARK}",
]  # fmt: skip


@pytest.mark.parametrize("part", SECRETS)
def test_a_secret_in_an_address_is_recognized_with_advice_and_kept_only_on_purpose(
    admin: Api, acme: House, part: str
) -> None:
    sent = {**NEW, "server_url": URL + part}
    code, sentence = faults(admin.post("/v1/connections", sent))["/server_url"]
    assert (code, "Custom headers" in sentence) == ("secret_in_url", True)
    assert not acme.tenant.connections.exists()

    kept = admin.post("/v1/connections", {**sent, "keep_url_secret": True})
    assert kept.status_code == 201, kept.text
    path = f"/v1/connections/{kept.json()['id']}"
    assert admin.request("PATCH", path, json={"name": "Renamed"}).status_code == 200
    moved = admin.request("PATCH", path, json={"server_url": f"{URL}/2{part}"})
    assert faults(moved)["/server_url"][0] == "secret_in_url"
    if "?" in part:
        assert MARK in admin.get(path).text
        for user in (acme.member, acme.auditor):
            assert MARK not in admin.as_(acme.member_token(user)).get(path).text


@pytest.mark.parametrize(
    "part", ["?page_token=", "?key=1", "?keyword=orders-and-more", "?profile=acme", "?next_token=abc"]
)
def test_other_query_strings_are_nobodys_secret(admin: Api, part: str) -> None:
    assert admin.post("/v1/connections", {**NEW, "server_url": URL + part}).status_code == 201
    assert egress.secret_in(URL + part) == ""


def test_the_box_for_a_secret_in_the_address_is_shown_only_then(acme: House) -> None:
    assert filled(acme).asks_about_url_secret is False
    form = filled(acme, server_url=f"{URL}?apiKey={MARK}")
    assert (form.is_valid(), form.asks_about_url_secret) == (False, True)
    assert filled(acme, server_url=f"{URL}?apiKey={MARK}", keep_url_secret="on").is_valid()


def test_a_callers_token_sees_no_query_string(api: Api, acme: House) -> None:
    acme.connection("Orders", f"{URL}?apiKey={MARK}")
    shown = api.as_(acme.token()).get("/v1/connections").text
    assert "apiKey" not in shown

"""What people paste where an address, a key or headers belong: taken out and shown, or named; never saved unseen."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from django.http import QueryDict

from connections.forms import ConnectionForm, pastes
from connections.models import Connection
from tests.conftest import House

URL = "https://8.8.8.8/mcp"
MARK = "m4rk-0123456789abcdef"

FOUND = [
    f"<{URL}>",
    f"`{URL}`",
    f'"{URL}"',
    f"'{URL}'",
    f"“{URL}”",
    f"url: {URL}",
    f"url = '{URL}'",
    f'"url": "{URL}",',
    f"Server URL: {URL}",
    f"MCP endpoint: {URL}.",
    f"**{URL}**",
    f"[the server]({URL})",
    f"\ufeff{URL}\u200b",
    f"https://{URL}",
    f"claude mcp add --transport http shop {URL}",
    f"claude mcp add shop --transport http {URL} --header 'Authorization: Bearer {MARK}'",
    f"codex mcp add shop --url {URL}",
    f"gemini mcp add -t http shop {URL}",
    f"$ claude mcp add --transport=sse shop '{URL}'",
    f"curl -X POST {URL} -H 'Content-Type: application/json' -d '{{\"a\": \"https://other.example\"}}'",
    f"curl -H 'Origin: https://other.example' -e https://other.example --url {URL}",
    f"curl \\\n  -H 'Authorization: Bearer {MARK}' \\\n  {URL}",
    f"npx -y mcp-remote {URL} --header 'X-Key: {MARK}'",
    f'{{"mcpServers": {{"shop": {{"type": "http", "url": "{URL}", "headers": {{"X-Key": "{MARK}"}}}}}}}}',
    f'{{"mcpServers": {{"shop": {{"command": "npx", "args": ["-y", "mcp-remote@latest", "{URL}"]}}}}}}',
    f'{{"servers": {{"shop": {{"serverUrl": "{URL}",}},}},}}',
    f'"shop": {{"httpUrl": "{URL}"}},',
    f'{{"name": "shop", "homepage": "https://other.example", "endpoint": "{URL}"}}',
    f"[mcp_servers.shop] url = \"{URL}\" bearer_token_env_var = 'SHOP'",
    f'code --add-mcp \'{{"name":"shop","url":"{URL}"}}\'',
]
NOT_FOUND = [  # and the code of what is said instead
    (f"{URL} and more", "forbidden_character"),
    ("https://8.8.8.8/m cp", "forbidden_character"),
    ("https://mcp.exam\u200bple.com/mcp", "forbidden_character"),
    ("npx -y @acme/mcp-server --api-url https://8.8.8.8/api", "stdio_command"),
    ("docker run -e API=https://8.8.8.8 acme/mcp", "stdio_command"),
    ('{"s": {"command": "npx", "args": ["-y", "@acme/mcp", "https://8.8.8.8/x"]}}', "configuration_pasted"),
    (f'{{"a": {{"url": "{URL}"}}, "b": {{"url": "https://8.8.4.4/mcp"}}}}', "several_addresses"),
    ("<https://localhost/mcp>", "localhost"),
    ('{"url": "http://127.0.0.1:3000/mcp"}', "https_required"),
    ("url: https://10.1.2.3/mcp", "private_address"),
    (f"<https://ann:{MARK}@8.8.8.8/mcp>", "credentials_in_url"),
    ("ftp://8.8.8.8/mcp", "scheme_forbidden"),
    ("[" * 10_000, "configuration_pasted"),
    ('{"url":' * 2_000, "configuration_pasted"),
]  # fmt: skip

pytestmark = pytest.mark.django_db


def sent(house: House, **fields: Any) -> ConnectionForm:
    data = QueryDict(mutable=True)
    data.update({"name": "Shop", "server_url": URL, "authorization": "none", "enabled": "on", **fields})
    return ConnectionForm(data, tenant=house.tenant, user=house.admin)


@pytest.mark.parametrize("text", FOUND)
def test_the_address_is_taken_out_and_shown_before_it_is_saved(acme: House, text: str) -> None:
    form = sent(acme, server_url=text)
    assert not form.is_valid()
    fault = form.errors.as_data()["server_url"][0]
    assert (fault.code, form["server_url"].value()) == ("address_found", URL)
    assert URL in fault.messages[0]
    assert ("was not taken over" in fault.messages[0]) or MARK not in text
    assert MARK not in str(form)
    again = sent(acme, server_url=form["server_url"].value())
    assert again.is_valid(), again.errors
    assert again.save().server_url == URL


@pytest.mark.parametrize(("text", "code"), NOT_FOUND)
def test_what_can_be_read_in_several_ways_or_leads_where_nobody_may_go_stays_refused(
    acme: House, text: str, code: str
) -> None:
    form = sent(acme, server_url=text)
    fault = form.errors.as_data()["server_url"][0]
    assert fault.code == code, fault
    assert MARK not in fault.messages[0]
    assert not Connection.objects.exists()


def test_an_address_without_its_scheme_is_offered_with_it() -> None:
    assert pastes.addresses_in("mcp.example.com/mcp") == ["https://mcp.example.com/mcp"]
    assert pastes.addresses_in("mcp.example.com") == ["https://mcp.example.com"]
    assert pastes.addresses_in("just some words") == pastes.addresses_in("") == []


@pytest.mark.parametrize(
    "address",
    [
        "https://{ACCOUNT}.snowflakecomputing.com/api/v2/mcp",
        "https://mcp.example.com/<your-workspace>/mcp",
        "https://mcp.example.com/${TENANT}/mcp",
        "https://YOUR_SUBDOMAIN.example.com/mcp",
        "https://mcp.example.com/mcp?workspace=[workspace id]",
        "https://your-instance.example.com/{{tenant}}/mcp",
    ],
)
def test_a_placeholder_in_an_address_is_named(acme: House, address: str) -> None:
    fault = sent(acme, server_url=address).errors.as_data()["server_url"][0]
    assert fault.code == "placeholder", fault
    assert pastes.placeholder_in(address) in fault.messages[0]


@pytest.mark.parametrize(
    "key",
    [
        "<your-api-key>", "YOUR_API_KEY", "${API_KEY}", "{API_KEY}", "{{API_KEY}}", "$API_KEY", "%API_KEY%",
        "[your key]", "your-api-key-here", "Bearer <token>", "Bearer YOUR_TOKEN", "${input:api-key}", "xxxxxxxx",
        "sk-xxxxxxxx", "sk-...", "********", "changeme", "api_key_here", "process.env.API_KEY", "$(cat key)",
        '"YOUR_API_KEY"', "insert_key", "REPLACE_ME",
        "sk-proj-****************abcd", "sk-...abcd", "eyJhbGciOi...", "sk-ant-api03-abc…xyz", "••••••••abcd", "abc***",
        "undefined", "null", "None",
    ],
)  # fmt: skip
def test_a_placeholder_in_place_of_a_key_is_named_at_its_field(acme: House, key: str) -> None:
    form = sent(acme, authorization="api_key", api_key=key)
    assert form.errors.as_data()["api_key"][0].code == "placeholder"
    if not key.isascii():  # which no header may be
        return
    form = sent(acme, authorization="headers", headers=f"X-Key: {key}")
    fault = form.errors.as_data()["headers"][0]
    assert (fault.code, "X-Key" in fault.messages[0]) == ("placeholder", True)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("API_KEY=sk-live-0123456789", "API_KEY"),
        ("export OPENAI_API_KEY=abc123456", "OPENAI_API_KEY"),
        ("x-api-key:abc123", "x-api-key"),
        ("X-API-Key: abc", "X-API-Key"),
        ("token=abc", "token"),
        ("Authorization: Bearer abc", "Authorization"),
        ("apiKey:abc", "apiKey"),
    ],
)
def test_a_name_before_a_key_is_named_and_not_stored(acme: House, key: str, name: str) -> None:
    fault = sent(acme, authorization="api_key", api_key=key).errors.as_data()["api_key"][0]
    assert fault.code == "name_before_key"
    assert f"“{name}”" in fault.messages[0]
    assert "sk-live" not in fault.messages[0]


@pytest.mark.parametrize("key", ["user:pass", "abc.def=", "my-token==", "a=b", "op://vault/item/key", "key-12345"])
def test_a_key_that_only_looks_like_it_is_stored(acme: House, key: str) -> None:
    assert sent(acme, authorization="api_key", api_key=key).is_valid()


CONFIG = {"type": "http", "url": "https://8.8.8.8/mcp"}
IN_BASE64 = base64.b64encode(json.dumps(CONFIG).encode()).decode()
IN_URL = quote(json.dumps(CONFIG), safe="")


@pytest.mark.parametrize(
    "link",
    [
        f"https://cursor.com/en/install-mcp?name=shop&config={IN_BASE64}",
        f"https://cursor.com/install-mcp?name=shop&config={quote(IN_BASE64, safe='')}",
        f"cursor://anysphere.cursor-deeplink/mcp/install?name=shop&config={IN_BASE64}",
        f"vscode:mcp/install?{IN_URL}",
        f"vscode-insiders:mcp/install?{IN_URL}",
        f"https://vscode.dev/redirect/mcp/install?name=shop&config={IN_URL}",
        f"https://insiders.vscode.dev/redirect?url=vscode-insiders%3Amcp%2Finstall%3F{quote(IN_URL, safe='')}",
    ],
)
def test_the_address_is_taken_out_of_a_link_that_installs_a_server(acme: House, link: str) -> None:
    form = sent(acme, server_url=link)
    fault = form.errors.as_data()["server_url"][0]
    assert (fault.code, "https://8.8.8.8/mcp" in fault.messages[0]) == ("address_found", True), fault
    assert form["server_url"].value() == "https://8.8.8.8/mcp"
    assert "not taken over" not in fault.messages[0]


def test_a_link_with_a_header_says_that_it_was_not_taken_over(acme: House) -> None:
    config = CONFIG | {"headers": {"Authorization": "Bearer m4rk-0123456789"}}
    packed = base64.b64encode(json.dumps(config).encode()).decode()
    fault = sent(acme, server_url=f"https://cursor.com/install-mcp?config={packed}").errors.as_data()["server_url"][0]
    assert "was not taken over" in fault.messages[0]
    assert "m4rk" not in fault.messages[0]


def test_a_link_without_a_remote_server_offers_nothing() -> None:
    packed = base64.b64encode(b'{"command": "npx", "args": ["-y", "@acme/mcp"]}').decode()
    assert pastes.addresses_in(f"cursor://anysphere.cursor-deeplink/mcp/install?name=x&config={packed}") == []
    assert pastes.addresses_in("cursor://anysphere.cursor-deeplink/mcp/install?config=%%%") == []


@pytest.mark.parametrize(
    ("key", "stored"),
    [
        ("sk-live-your0key", "sk-live-your0key"),  # a word inside of a key is none
        ("my0wnkey", "my0wnkey"),
        ('"abc"', "abc"), ("'abc'", "abc"), ("`abc`", "abc"), ("“abc”", "abc"), ('"abc",', "abc"), (" abc \n", "abc"),
        ('"Bearer abc"', "abc"), ("a'b", "a'b"), ('"abc', '"abc'), ("abc==", "abc=="), ("a.b,", "a.b,"),
    ],
)  # fmt: skip
def test_quotes_around_a_key_are_dropped_and_nothing_else_of_it(acme: House, key: str, stored: str) -> None:
    form = sent(acme, authorization="api_key", api_key=key)
    assert form.is_valid(), form.errors
    assert dict(form.save().request_headers()) == {"Authorization": f"Bearer {stored}"}


@pytest.mark.parametrize(
    "text",
    [
        'X-Key: "abc"',
        '-H "X-Key: abc"',
        "--header 'X-Key: abc'",
        '{"X-Key": "abc"}',
        '"X-Key": "abc",',
        '{"headers": {"X-Key": "abc"}}',
    ],
)
def test_headers_are_read_out_of_commands_and_json(acme: House, text: str) -> None:
    form = sent(acme, authorization="headers", headers=text)
    assert form.is_valid(), form.errors
    assert dict(form.save().request_headers()) == {"X-Key": "abc"}


@pytest.mark.parametrize("text", ['{"X-Key": 7}', '{"X-Key": "a\\nX-Other: b"}', '-H "Host: x"', '{"Host": "x"}'])
def test_headers_in_json_are_held_to_the_same_rules(acme: House, text: str) -> None:
    assert "headers" in sent(acme, authorization="headers", headers=text).errors


def test_a_paste_of_any_length_is_read_within_a_moment() -> None:
    for piece in ("https://", "[", '"url": "', "{", "<https://a ", "'", "a.", "-H '", "url=https://x/ "):
        assert len(pastes.addresses_in(piece * 5_000)) < 10
        pastes.header_lines(piece * 5_000)
        pastes.placeholder_in(piece * 2_000)

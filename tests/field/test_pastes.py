"""What people paste where an address, a key or headers belong: taken out and shown, or named; never saved unseen."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from django.http import QueryDict

from connections.forms import ConnectionForm, keys, pastes
from connections.models import Connection
from tests.conftest import House
from tests.live import Api

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
    f"[{URL}]({URL})",
    f"[Orders]({URL})",
    f'**[Orders]({URL} "our server")**',
    f"Use [the server](<{URL}>), please.",
    f"- [ ] [{URL}]({URL}).",
    f"{URL}]({URL})",
    *(
        f"{URL}{mark}"
        for mark in (".", ",", ";", ")", "]", "!", ":", "**", "。", "、", "…", "）", "」", ").", "&quot;", "&gt;")
    ),
    f"{URL}{URL}",
    f"{URL}</url>",
    f"<url>{URL}</url>",
    f"{URL}&#39;",
    f"Hi! Please use {URL} for the tests.",
    f"See {URL}, please",
    f"{URL} (Streamable HTTP)",
    f"{URL} # production",
    f"| URL | {URL} |",
    f"「{URL}」",
    f"（{URL}）",
    f"URL：{URL}",
    f"POST {URL} HTTP/1.1",
    f"POST {URL} HTTP/1.1\nContent-Type: application/json",
    f"Invoke-RestMethod -Uri {URL} -Method Post",
    f"npx add-mcp {URL}",
    f"$ {URL}",
    f"> {URL}",
    f"npx -y install-mcp {URL} --client claude",
    f"npx @modelcontextprotocol/inspector {URL}",
    f"npx @modelcontextprotocol/inspector --cli {URL} --transport http",
    f"$ npx -y mcp-remote@latest {URL} --resource https://other.example/",
    f'code --add-mcp \'{{"name":"shop","url":"{URL}"}}\'',
    f"[url]{URL}[/url]",
    f"[url={URL}]Shop[/url]",
    f"[[{URL}][Shop]]",
    f"\\href{{{URL}}}{{Shop}}",
    f"_{URL}_",
    f"~~{URL}~~",
    f'streamablehttp_client(url="{URL}", headers={{"X-Key": "{MARK}"}})',
    f'{{"item": [{{"request": {{"method": "POST", "url": {{"raw": "{URL}", "host": ["8", "8"]}}}}}}]}}',
    '{"url": "https://8.8.8.8", "path": "/mcp"}',
    '{"shop": {"baseUrl": "https://8.8.8.8/", "endpoint": "/mcp"}}',
    "connections:\n  shop:\n    url: https://8.8.8.8\n    endpoint: /mcp",
    f"{{“url”: “{URL}”}}",
]
NOT_FOUND = [  # and the code of what is said instead
    (f"{URL} and more", "forbidden_character"),
    ("https://8.8.8.8/m cp", "forbidden_character"),
    ("https://mcp.exam\u200bple.com/mcp", "forbidden_character"),
    ("npx -y @acme/mcp-server --api-url https://8.8.8.8/api", "stdio_command"),
    ("docker run -e API=https://8.8.8.8 acme/mcp", "stdio_command"),
    ('{"s": {"command": "npx", "args": ["-y", "@acme/mcp", "https://8.8.8.8/x"]}}', "configuration_pasted"),
    (f'{{"a": {{"url": "{URL}"}}, "b": {{"url": "https://8.8.4.4/mcp"}}}}', "several_addresses"),
    ("$ npx -y @acme/mcp-server --api-url https://8.8.8.8/api", "stdio_command"),
    ("sudo docker run -e API=https://8.8.8.8 acme/mcp for all", "stdio_command"),
    (f"[https://8.8.4.4/mcp]({URL})", "several_addresses"),  # its words say another address than its target
    (f"{URL}https://8.8.4.4/mcp", "several_addresses"),
    (f"Ours is {URL}. See https://docs.example.com for help.", "several_addresses"),
    ("[Orders](https://10.1.2.3/mcp)", "private_address"),
    ("https://10.1.2.3/mcp.", "private_address"),
    ('{"url": "https://8.8.8.8/mcp?apiKey=${API_KEY}"}', "placeholder"),
    ('{"url": "https://8.8.8.8/mcp/${input:tenant}"}', "placeholder"),
    ('{"url": "https://${input:host}/mcp"}', "placeholder"),
    ("url: https://8.8.8.8/<tenant>/mcp", "placeholder"),
    ("url: https://8.8.8.8/mcp/{tenant}", "placeholder"),
    ("url: https://8.8.8.8/mcp/${{ vars.TENANT }}", "placeholder"),
    ("curl -X POST https://8.8.8.8/mcp/$TENANT", "placeholder"),
    ("Use https://8.8.8.8/mcp/YOUR_TENANT for this.", "placeholder"),
    ("https://8.8.8.8/%7Btenant%7D/mcp", "placeholder"),
    ("https://8.8.8.8/__TENANT__/mcp", "placeholder"),
    ("https://8.8.8.8/...", "placeholder"),
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


@pytest.mark.parametrize(
    "address",
    [
        "https://8.8.8.8/mcp(v2)", "https://8.8.8.8/mcp/", "https://8.8.8.8/mcp?a=(b)&c=d", "https://8.8.8.8/v1/a.b:c",
        "https://8.8.8.8/to/https://other.example/mcp", "https://8.8.8.8/mcp?url=https://other.example/mcp",
        "https://8.8.8.8/mcp-remote/mcp", "https://8.8.8.8/mcp?team=x-", "https://8.8.8.8/%7Eann/mcp",
        "https://8.8.8.8/mcp/add?url=https://other.example/mcp", "https://8.8.8.8/mcp/a_b_",
        "https://8.8.8.8/mcp?q=(a)[]&r=(b)", "https://8.8.8.8/mcp?a=1&copy=2",
    ],
)  # fmt: skip
def test_an_address_that_is_whole_is_stored_as_it_is(acme: House, address: str) -> None:
    form = sent(acme, server_url=address)
    assert form.is_valid(), form.errors
    assert form.save().server_url == address


@pytest.mark.parametrize("text", ["url: {}", '{{"url": "{}"}}', "<{}>", "[Shop]({})", "Use {}."])
def test_the_place_of_a_secret_stays_where_it_is(acme: House, text: str) -> None:
    form = sent(acme, server_url=text.format(f"{URL}?key={{secret}}"), address_secret=MARK)
    assert form.errors.as_data()["server_url"][0].code == "address_found"
    assert form["server_url"].value() == f"{URL}?key={{secret}}"
    assert sent(acme, server_url=form["server_url"].value(), address_secret=MARK).is_valid()


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
    assert keys.placeholder_in(address) in fault.messages[0]


@pytest.mark.parametrize(
    "key",
    [
        "<your-api-key>", "YOUR_API_KEY", "${API_KEY}", "{API_KEY}", "{{API_KEY}}", "$API_KEY", "%API_KEY%",
        "[your key]", "your-api-key-here", "Bearer <token>", "Bearer YOUR_TOKEN", "${input:api-key}", "xxxxxxxx",
        "sk-xxxxxxxx", "sk-...", "********", "changeme", "api_key_here", "process.env.API_KEY", "$(cat key)",
        '"YOUR_API_KEY"', "insert_key", "REPLACE_ME",
        "sk-proj-****************abcd", "sk-...abcd", "eyJhbGciOi...", "sk-ant-api03-abc…xyz", "••••••••abcd", "abc***",
        "undefined", "null", "None",
        "$env:API_KEY", "#{API_KEY}", "__API_KEY__", "@API_KEY@", "%(API_KEY)s", "!secret api_key", "API_KEY", "apiKey",
        "GITHUB_TOKEN", "my-api-key", "REDACTED", "(hidden)", "your key here", "TODO", "sk_live_xxxxxxxx", "xxx",
        "sk-your-api-key", "sk-your_api_key_here", "pk_test_your_key", "xoxb-your-token", "AKIAIOSFODNN7EXAMPLE",
        "<<API_KEY>>", "[[API_KEY]]", "#API_KEY#", "<API_KEY", "Bearer <>", "TU_CLAVE_API", "VOTRE_CLE_API",
        "example-key",
        "DEIN_SCHLUESSEL", "ENV['API_KEY']", 'System.getenv("KEY")', "os.getenv('KEY')", "import.meta.env.KEY",
        "Deno.env.get('KEY')", "input:api-key", "abcd[...]wxyz", "Bearer 'YOUR_KEY'",
        "sk-proj-xxxx-xxxx", "0000000000", "Bearer", "bearer ", "ApiKey YOUR_KEY", "Token API_TOKEN",
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
        ("client_secret=abc", "client_secret"),
        ("pat: abc", "pat"),
        ('{"Authorization": "Bearer abc"}', "Authorization"),
        ('"Authorization": "Bearer abc"', "Authorization"),
        ("{'X-Shop': 'abc'}", "X-Shop"),
        ("-H 'Authorization: Bearer abc'", "Authorization"),
        ("x-api-key:abc123", "x-api-key"),
        ("X-API-Key: abc", "X-API-Key"),
        ("token=abc", "token"),
        ("Authorization: Bearer abc", "Authorization"),
        ("apiKey:abc", "apiKey"),
        ("API Key: abc", "API Key"),
        ("Bearer: abc", "Bearer"),
        ("bearer=abc", "bearer"),
        ("Bearer:abc", "Bearer"),
        ("Bearer%20abc", "Bearer"),
    ],
)
def test_a_name_before_a_key_is_named_and_not_stored(acme: House, key: str, name: str) -> None:
    fault = sent(acme, authorization="api_key", api_key=key).errors.as_data()["api_key"][0]
    assert fault.code == "name_before_key"
    assert f"“{name}”" in fault.messages[0]
    assert "sk-live" not in fault.messages[0]


@pytest.mark.parametrize(
    "key",
    [
        "user:pass",
        "test",
        "basic",
        "secretly-0f3a",
        "token-7f",
        "AB_CD==",
        "sk_live_xxxa",
        "abc.def=",
        "my-token==",
        "a=b",
        "op://vault/item/key",
        "key-12345",
    ],
)
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
        f"lmstudio://add_mcp?name=shop&config={IN_BASE64}",
        "goose://extension?cmd=npx&arg=-y&arg=mcp-remote&arg=https%3A%2F%2F8.8.8.8%2Fmcp&id=shop",
        "goose://extension?url=https%3A%2F%2F8.8.8.8%2Fmcp&type=streamable_http&id=shop",
        f"raycast://mcp/install?{IN_URL}",
        "windsurf://mcp/install?name=shop&url=https://8.8.8.8/mcp",
        "https://claude.ai/settings/connectors?modal=add-custom-connector&url=https://8.8.8.8/mcp",
        f"https://kiro.dev/launch/mcp/add?name=shop&config={IN_URL}",
        "https://nam12.safelinks.protection.outlook.com/?url=https%3A%2F%2F8.8.8.8%2Fmcp&data=05%7C02%7C&reserved=0",
        "https://nam12.safelinks.protection.outlook.com/?url=https%3A%2F%2F8.8.8.8%2Fmcp&amp;data=05%7C02&amp;reserved=0",
        "https://urldefense.com/v3/__https://8.8.8.8/mcp__;!!AbC!xyz$",
        "https://www.google.com/url?q=https://8.8.8.8/mcp&sa=D",
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
        ("\u200babc", "abc"), ("\ufeffabc\u2060", "abc"), ("\u200b'abc'\u200b", "abc"), ("SHOP_PAT=abc", "abc"),
        ("API_KEY=sk-live-0123456789", "sk-live-0123456789"), ("export OPENAI_API_KEY='abc'", "abc"),
        ('$env:TOKEN = "abc"', "abc"), ("set SHOP_KEY=abc", "abc"), ("SHOP_PAT=Bearer abc", "abc"),
        ("Bearer 'abc'", "abc"), ('Bearer "abc",', "abc"), ("BEARER “abc”", "abc"), ("bearer-abc", "bearer-abc"),
        ("TU_0A1B", "TU_0A1B"), ("env-0f3a", "env-0f3a"), ("EXAMPLE-0f3a", "EXAMPLE-0f3a"),
        ('"Bearer abc"', "abc"), ("a'b", "a'b"), ('"abc', '"abc'), ("abc==", "abc=="), ("a.b,", "a.b,"),
    ],
)  # fmt: skip
def test_quotes_around_a_key_are_dropped_and_nothing_else_of_it(acme: House, key: str, stored: str) -> None:
    form = sent(acme, authorization="api_key", api_key=key)
    assert form.is_valid(), form.errors
    assert dict(form.save().request_headers()) == {"Authorization": f"Bearer {stored}"}


@pytest.mark.parametrize("field", ["api_key", "headers"])
def test_what_rival_sends_in_very_many_quotes_holds_nobody_up(rival: House, field: str) -> None:
    key = "'" * 60_000 + "abc" + "'" * 60_000
    began = time.thread_time()
    form = sent(rival, authorization=field, **{field: key if field == "api_key" else f"X-Key: {key}"})
    assert field in form.errors
    assert time.thread_time() - began < 3.0, "of the processor; it was a minute"


@pytest.mark.parametrize(
    "text",
    [
        'X-Key: "abc"',
        '-H "X-Key: abc"',
        "--header 'X-Key: abc'",
        '{"X-Key": "abc"}',
        '"X-Key": "abc",',
        '{"headers": {"X-Key": "abc"}}',
        "'X-Key: abc'",
        "`X-Key: abc`",
        "“X-Key: abc”",
        "X-Key: “abc”",
        "- X-Key: abc",
        "\ufeffX-Key: abc",
        "X-Key: \u200babc\u200b",
        "X-Key\uff1aabc",
        "-HX-Key:abc",
        "-H X-Key:abc",
        "-H X-Key: abc",
        "--header X-Key:abc",
        "--header=X-Key:abc",
        "curl -H X-Key:abc https://8.8.8.8/mcp",
        "curl https://8.8.8.8/mcp \\\n  -H 'X-Key: abc' \\\n  -d '{}'",
        'curl ^\n  -H ^"X-Key: abc^" ^\n  https://8.8.8.8/mcp',
        '{"X-Key":"abc",}',
        "{'X-Key':'abc'}",
        "{X-Key: abc}",
        "@{'X-Key'='abc'}",
        '{ "X-Key" = "abc" }',
        'headers: {"X-Key": "abc"}',
        'http_headers = { "X-Key" = "abc" }',
        '{"requestInit":{"headers":{"X-Key":"abc"}}}',
        '[{"key":"X-Key","value":"abc"}]',
        '["X-Key: abc"]',
        '{"headers": ["X-Key: abc"]}',
        '{"mcpServers": {"shop": {"url": "https://8.8.8.8/mcp", "headers": {"X-Key": "abc"}}}}',
        '[{"key": "X-Key", "value": "abc"}, {"key": "X-Old", "value": "old", "disabled": true}]',
        '[{"name": "X-Key", "value": "abc", "enabled": true}, {"name": "X-Old", "value": "old", "enabled": false}]',
        "{“X-Key”: “abc”}",
        "“X-Key”: “abc”",
        "Headers: X-Key: abc",
        "headers:\n  X-Key: abc",
        "http_headers:\r\n    X-Key: 'abc'\r\n",
        "  X-Key: abc\n",
        "\tX-Key: abc\n\t",
        "> X-Key: abc",
        "– X-Key: abc",
        "**X-Key**: abc",
        "`X-Key`: `abc`",
        "-H $'X-Key: abc'",
    ],
)
def test_headers_are_read_out_of_commands_and_json(acme: House, text: str) -> None:
    form = sent(acme, authorization="headers", headers=text)
    assert form.is_valid(), form.errors
    assert dict(form.save().request_headers()) == {"X-Key": "abc"}


@pytest.mark.parametrize(
    "text",
    [
        '{"X-Key": 7}', '{"X-Key": "a\\nX-Other: b"}', '-H "Host: x"', '{"Host": "x"}', "-HHost:x",
        "'X-Key: abc", "`X-Key: abc", "-X-Key: abc", '{"X-Key": null}', '{"a": {"b": "c"}, "d": {}}', "X-Key: a\n b",
        '{"X-Key": ["m4rk-1", "m4rk-2"]}', '{"X-Key": ["a: b"]}', '{"X-Key": "a", "X-Key": "b"}', "  X-Key: a\n    b",
        '{"headers": {"X-Key": "a", "x-key": "b"}}', '[{"key": "X-Key", "value": "abc", "disabled": true}]',
        "-H 'X-Key: a\r\nX-Other: b'", "curl https://8.8.8.8/mcp", "X-Key: ApiKey YOUR_KEY", "Authorization: Bearer",
    ],
)  # fmt: skip
def test_headers_in_json_are_held_to_the_same_rules(acme: House, text: str) -> None:
    errors = sent(acme, authorization="headers", headers=text).errors
    assert "headers" in errors
    assert "m4rk" not in str(errors)


@pytest.mark.parametrize("value", ["false", "true", "EXAMPLE", "acme_2", "a#b", "TEAM_ID", "in", "v1.2"])
def test_a_word_as_the_value_of_a_header_is_no_placeholder(acme: House, value: str) -> None:
    form = sent(acme, authorization="headers", headers=f"X-Mode: {value}")
    assert form.is_valid(), form.errors
    assert dict(form.save().request_headers()) == {"X-Mode": value}


def test_a_paste_of_any_length_is_read_within_a_moment() -> None:
    for piece in ("https://", "[", '"url": "', "{", "<https://a ", "'", "a.", "-H '", "url=https://x/ "):
        assert len(pastes.addresses_in(piece * 5_000)) < 10
        keys.header_lines(piece * 5_000)
        keys.placeholder_in(piece * 2_000)


@pytest.mark.parametrize(
    "link",
    [
        "goose://extension?url=https%3A%2F%2F10.1.2.3%2Fmcp",
        "lmstudio://add_mcp?config=%%%",
        "https://eu.safelinks.protection.outlook.com/?url=https%3A%2F%2F10.1.2.3%2F",
    ],
)
def test_a_link_that_leads_where_nobody_may_go_stays_refused(acme: House, link: str) -> None:
    assert "server_url" in sent(acme, server_url=link).errors
    assert not Connection.objects.exists()


BLANKS = [
    "<client-id>",
    "YOUR_CLIENT_ID",
    "${CLIENT_ID}",
    "{client_id}",
    "CLIENT_ID",
    "your-client-id",
    "client_id=abc",
]


@pytest.mark.parametrize("text", [*BLANKS, "YOUR_CLIENT_SECRET", "client_secret=abc", "********", "<secret>"])
def test_a_placeholder_of_a_client_is_named(acme: House, text: str) -> None:
    fields = ["oauth_client_secret"] if text not in BLANKS else ["oauth_client_id", "oauth_client_secret"]
    for field in fields:
        given = {"authorization": "oauth", "oauth_client_id": "abc", field: text}
        fault = sent(acme, **given).errors.as_data()[field][0]
        assert fault.code in {"placeholder", "name_before_key"}
        assert field.removeprefix("oauth_").replace("_id", " ID").replace("_", " ") in fault.messages[0]


@pytest.mark.parametrize(
    "scopes", ["<scopes>", "${SCOPES}", "YOUR_SCOPES", "SCOPES", "read <scope>", "api://{id}/all", "scope=<x>"]
)
def test_a_placeholder_of_scopes_is_named(acme: House, scopes: str) -> None:
    fault = sent(acme, authorization="oauth", oauth_scopes=scopes).errors.as_data()["oauth_scopes"][0]
    assert fault.code == "placeholder"


@pytest.mark.parametrize(
    "scopes", ['"read write"', "scope=read write", "scopes: read, write", '["read", "write"]', '"read","write"']
)
def test_what_stands_around_the_words_of_a_client_is_dropped(acme: House, scopes: str) -> None:
    form = sent(
        acme, authorization="oauth", oauth_client_id='"abc",', oauth_client_secret="\u200b'xyz'", oauth_scopes=scopes
    )
    assert form.is_valid(), form.errors
    connection = form.save()
    assert (connection.oauth_client_id, connection.oauth_scopes) == ("abc", "read write")
    assert connection.secret("oauth_client_secret") == "xyz"


@pytest.mark.parametrize("name", ["client", "my-app", "https://acme.example/client.json", "0oa1b2-c3", "{0A1B-2C}x"])
def test_other_names_of_clients_are_stored(acme: House, name: str) -> None:
    assert sent(acme, authorization="oauth", oauth_client_id=name, oauth_scopes="scope:read a/b").is_valid()


@pytest.mark.parametrize(
    ("members", "pointer", "code"),
    [
        ({"server_url": f"[{URL}]({URL})"}, "/server_url", "address_found"),
        ({"server_url": f"{URL}."}, "/server_url", "address_found"),
        ({"server_url": f"{URL}/${{TENANT}}"}, "/server_url", "placeholder"),
        ({"authorization": "api_key", "api_key": "$env:API_KEY"}, "/api_key", "placeholder"),
        ({"authorization": "api_key", "api_key": "client_secret=m4rk"}, "/api_key", "name_before_key"),
        ({"authorization": "headers", "headers": {"'X-Key": "m4rk'"}}, "/headers", "bad_header"),
        ({"authorization": "headers", "headers": {"-HX-Key": "m4rk"}}, "/headers", "bad_header"),
        ({"authorization": "headers", "headers": {"X-Key": "ApiKey YOUR_KEY"}}, "/headers", "placeholder"),
        ({"authorization": "headers", "headers": {"X-Key": "m4rk\nX: y"}}, "/headers", "bad_header"),
        ({"authorization": "oauth", "oauth_client_id": "<client-id>"}, "/oauth_client_id", "placeholder"),
        ({"authorization": "oauth", "oauth_scopes": "<scopes>"}, "/oauth_scopes", "placeholder"),
    ],
)
def test_programs_are_told_the_same(api: Api, acme: House, members: dict[str, Any], pointer: str, code: str) -> None:
    admin = api.as_(acme.member_token(acme.admin))
    answer = admin.post("/v1/connections", {"name": "Shop", "server_url": "http://127.0.0.1:9/mcp", **members})
    assert (answer.status_code, "m4rk" in answer.text) == (422, False)
    assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [(pointer, code)]
    row = admin.post("/v1/connections", {"name": "Shop", "server_url": "http://127.0.0.1:9/mcp"}).json()
    changed = admin.request("PATCH", f"/v1/connections/{row['id']}", json=members)
    assert [(fault["pointer"], fault["code"]) for fault in changed.json()["errors"]] == [(pointer, code)]


def test_programs_keys_lose_the_same_edges(api: Api, acme: House) -> None:
    admin = api.as_(acme.member_token(acme.admin))
    sent_ = {"name": "Shop", "server_url": "http://127.0.0.1:9/mcp", "headers": {"\ufeffX-Key": "\u200b'abc'"}}
    assert admin.post("/v1/connections", sent_).status_code == 201
    assert dict(Connection.objects.get().request_headers()) == {"X-Key": "abc"}

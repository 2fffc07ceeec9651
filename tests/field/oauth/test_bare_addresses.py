"""An address is all that a new connection needs at first: what the server wants is proposed, and a person decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from connections import names
from connections.models import Connection, User
from tests.conftest import House
from tests.oauth.conftest import StartScene
from tests.servers.authorization.protection import protect
from tests.servers.fixtures import StartAuthorizationServer, StartServer
from tests.servers.kinds import answers, asks_for_api_key, forbids, only_legacy
from tests.servers.running import Rule

ADD = "/admin/connections/connection/add/"
LOOK = "/admin/connections/connection/check-sign-in/"
BARE = {"authorization": "", "name": "", "enabled": "on"}
SignedIn = Callable[[User | None], Client]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("open_egress")]


@pytest.fixture
def ann(acme: House, signed_in: SignedIn) -> Client:
    return signed_in(acme.admin)


def proposed(answer: HttpResponse) -> tuple[str, str]:
    """The method that is chosen on the page, and what the page says of the server."""
    assert answer.status_code == 200
    assert not Connection.objects.exists(), "nothing is saved before a person has seen it"
    assert answer.context["errors"] == [], "nobody has made a mistake"
    form = answer.context["adminform"].form
    return str(form["authorization"].value()), str(answer.context["look"]["sentence"])


RESULT = b'{"jsonrpc":"2.0","id":1,"result":{}}'
STREAM = b"event: ping\ndata: {}\n\nevent: message\ndata: " + RESULT + b"\n\n"
KEY_WANTED = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Unauthorized: API key required"}}'
MISSING = b'{"error":"Missing header: X-API-Key"}'
OPEN: dict[str, tuple[list[Rule], str, str]] = {
    "open": ([], "none", "asks for no sign-in and no key"),
    "open, of the handshake era": ([only_legacy], "none", "asks for no sign-in and no key"),
    "a key": ([asks_for_api_key], "api_key", "names no sign-in server"),
    "a password": ([answers(401, www_authenticate='Basic realm="x"')], "headers", "a user name and a password"),
    "a password or a token": ([answers(401, www_authenticate="Basic, Bearer")], "api_key", "names no sign-in server"),
    "a key, of the handshake era": ([only_legacy, asks_for_api_key], "api_key", "names no sign-in server"),
    "forbidden": ([answers(403)], "api_key", "refuses strangers (HTTP 403)"),
    "forbidden, with a challenge": ([forbids], "api_key", "refuses strangers (HTTP 403)"),
    "a key, in words": (
        [answers(401, b'{"statusCode":401,"message":"Access denied due to missing subscription key."}')],
        "api_key",
        "own words: “Access denied due to missing subscription key.”",
    ),
    "forbidden, in words": (
        [answers(403, b'{"message":"Missing Authentication Token"}')],
        "api_key",
        "“Missing Authentication Token”",
    ),
    "a key by a scheme of its own": ([answers(401, www_authenticate="X-API-Key")], "api_key", "(HTTP 401)"),
    "Digest or Basic": ([answers(401, www_authenticate='Digest nonce="a, b", Basic realm="x"')], "headers", "Basic"),
    "a stream": ([answers(200, STREAM, content_type="text/event-stream")], "none", "asks for no sign-in and no key"),
    "a stream without its type": ([answers(200, STREAM)], "none", "asks for no sign-in and no key"),
    "with a byte order mark": ([answers(200, b"\xef\xbb\xbf" + RESULT)], "none", "asks for no sign-in and no key"),
    "one in a list": ([answers(200, b"[" + RESULT + b"]")], "none", "asks for no sign-in and no key"),
}
NO_METHOD: dict[str, tuple[Rule, str, str]] = {
    "a page": (answers(200, b"<html>", content_type="text/html"), "with a page", "usually ends in /mcp"),
    "text": (answers(200, b"ok", content_type="text/plain"), "with something else", "usually ends in /mcp"),
    "302": (answers(302, location="https://login.example.com/"), "HTTP 302", "past the page"),
    "304": (answers(304), "HTTP 304", "redirects"),
    "400": (answers(400, b"X-Tenant-Id is required"), "HTTP 400", "documentation"),
    "402": (answers(402), "HTTP 402", "documentation"),
    "404": (answers(404), "HTTP 404", "usually ends in /mcp"),
    "405": (answers(405), "HTTP 405", "usually ends in /mcp"),
    "429": (answers(429), "HTTP 429", "Wait"),
    "an error in a 200": (answers(200, KEY_WANTED), "“Unauthorized: API key required”", "words ask for"),
    "an error in a stream": (
        answers(200, b"data: " + KEY_WANTED + b"\n\n", content_type="text/event-stream"),
        "“Unauthorized: API key required”",
        "words ask for",
    ),
    "Slack's": (answers(200, b'{"ok":false,"error":"not_authed"}'), "“not_authed”", "words ask for"),
    "an empty 200": (answers(200), "without a result", "usually ends in /mcp"),
    "202": (answers(202), "without a result", "usually ends in /mcp"),
    "204": (answers(204), "without a result", "usually ends in /mcp"),
    "{}": (answers(200, b"{}"), "without a result", "usually ends in /mcp"),
    "null": (answers(200, b"null"), "without a result", "usually ends in /mcp"),
    "[]": (answers(200, b"[]"), "without a result", "usually ends in /mcp"),
    "no result": (answers(200, b'{"jsonrpc":"2.0","id":1,"result":null}'), "without a result", "ends in /mcp"),
    "broken JSON": (answers(200, RESULT[:-1]), "without a result", "usually ends in /mcp"),
    "a result and an error": (
        answers(200, RESULT[:-1] + b',"error":{"message":"No key"}}'),
        "“No key”",
        "words ask for",
    ),
    "400 in words": (answers(400, MISSING), "“Missing header: X-API-Key”", "documentation"),
    "421 in text": (answers(421, b"Invalid Host", content_type="text/plain"), "“Invalid Host”", "documentation"),
    "Cloudflare, 403": (answers(403, b"<html>", cf_mitigated="challenge"), "Cloudflare", "let this service pass"),
    "Cloudflare, 503": (answers(503, b"<html>", cf_mitigated="block"), "Cloudflare", "let this service pass"),
    "AWS WAF": (answers(405, b"<html>", x_amzn_waf_action="captcha"), "AWS WAF", "let this service pass"),
    "Digest": (answers(401, www_authenticate='Digest realm="x", nonce="1"'), "by Digest", "an API key, or"),
    "Negotiate or NTLM": (answers(401, www_authenticate="Negotiate, NTLM"), "by Negotiate or NTLM", "an API key, or"),
    "AWS": (answers(401, www_authenticate="AWS4-HMAC-SHA256"), "by AWS4-HMAC-SHA256", "an API key, or"),
    "500": (answers(500), "HTTP 500", "own logs"),
    "503": (answers(503), "HTTP 503", "Wait"),
}


@pytest.mark.parametrize(("rule", "words", "step"), NO_METHOD.values(), ids=NO_METHOD.keys())
def test_no_method_is_proposed_for_what_is_no_answer_of_a_server(
    ann: Client, mcp_server: StartServer, rule: Rule, words: str, step: str
) -> None:
    server = mcp_server()
    server.rules[:] = [rule]
    answer = ann.post(ADD, {**BARE, "server_url": server.url})
    chosen, sentence = proposed(answer)
    assert (chosen, words in sentence) == ("", True), sentence
    assert step in answer.context["look"]["step"]


@pytest.mark.parametrize(("rules", "method", "words"), OPEN.values(), ids=OPEN.keys())
def test_the_method_that_fits_is_proposed(
    ann: Client, mcp_server: StartServer, rules: list[Rule], method: str, words: str
) -> None:
    server = mcp_server()
    server.rules[:] = rules
    chosen, sentence = proposed(ann.post(ADD, {**BARE, "server_url": server.url}))
    assert (chosen, words in sentence) == (method, True), sentence


@pytest.mark.parametrize(
    ("location", "words", "offered"),
    [
        ("/mcp/", "sends us to {origin}/mcp/ (HTTP 307)", "{origin}/mcp/"),
        ("{origin}/v2?x=m4rk", "sends us to {origin}/v2 (HTTP 307)", "{origin}/v2"),
        ("https://8.8.8.8/mcp", "sends us to https://8.8.8.8/mcp", ""),
        ("/users/sign_in", "A page where people sign in", ""),
        ("http://169.254.169.254/latest", "The server answered HTTP 307", ""),
        ("https://ann:m4rk@8.8.8.8/mcp", "The server answered HTTP 307", ""),
    ],
)
def test_where_a_server_redirects_to_is_named_and_offered_on_the_same_host_only(
    ann: Client, mcp_server: StartServer, location: str, words: str, offered: str
) -> None:
    server = mcp_server()
    server.rules[:] = [answers(307, location=location.format(origin=server.origin))]
    answer = ann.post(ADD, {**BARE, "server_url": server.url})
    chosen, sentence = proposed(answer)
    assert (chosen, words.format(origin=server.origin) in sentence) == ("", True), sentence
    assert answer.context["look"]["address"] == offered.format(origin=server.origin)
    page = answer.content.decode()
    assert ("Use this address" in page) == bool(offered)
    assert "m4rk" not in page


def test_no_secret_of_the_address_is_quoted(ann: Client, mcp_server: StartServer) -> None:
    server = mcp_server()
    server.rules[:] = [
        answers(403, b'{"message":"m4rk-0123456789 at m4rkM4rk0123456789 is bad, as is ghs_A1b2C3d4E5f6G7"}')
    ]
    url = f"{server.origin}/m4rkM4rk0123456789/mcp?lang=m4rk-0123456789"
    _, sentence = proposed(ann.post(ADD, {**BARE, "server_url": url, "keep_url_secret": "on"}))
    assert "is bad" in sentence
    assert "m4rk" not in sentence.lower()
    assert "ghs_" not in sentence


@pytest.mark.parametrize("metadata", ["header", "path", "root", "origin"])
def test_a_sign_in_is_proposed_where_the_server_wants_one(
    ann: Client, mcp_server: StartServer, authorization_server: StartAuthorizationServer, metadata: Any
) -> None:
    server = mcp_server()
    protect(server, authorization_server(), metadata=metadata)
    chosen, sentence = proposed(ann.post(ADD, {**BARE, "server_url": server.url}))
    assert chosen == "oauth"
    assert sentence.startswith("This server wants a sign-in. ")
    assert "lets us register by ourselves" in sentence


def test_no_registration_is_promised_where_no_document_says_so(
    ann: Client, mcp_server: StartServer, authorization_server: StartAuthorizationServer
) -> None:
    server = mcp_server()
    protect(server, authorization_server(), metadata="none")
    chosen, sentence = proposed(ann.post(ADD, {**BARE, "server_url": server.url}))
    assert chosen == "api_key"
    assert "register" not in sentence


def test_what_was_entered_stays_and_the_next_submission_saves(
    ann: Client, acme: House, mcp_server: StartServer
) -> None:
    entered = {**BARE, "server_url": mcp_server().url, "call_timeout": "77", "tool_prefix": "shop", "send_trace": "on"}
    form = ann.post(ADD, entered).context["adminform"].form
    assert [form[name].value() for name in ("call_timeout", "tool_prefix")] == ["77", "shop"]
    assert form["name"].value() == "127.0.0.1"
    assert form["send_trace"].value() == "on"
    saved = ann.post(ADD, {**entered, "authorization": "none", "name": "Shop"})
    assert saved.status_code == 302
    connection = acme.tenant.connections.get()
    assert (connection.authorization, connection.slug, connection.call_timeout) == ("none", "shop", 77)


def test_a_person_may_choose_another_method(ann: Client, acme: House, mcp_server: StartServer) -> None:
    entered = {**BARE, "server_url": mcp_server().url}
    ann.post(ADD, entered)
    ann.post(ADD, {**entered, "name": "Shop", "authorization": "oauth"})
    assert acme.tenant.connections.get().authorization == "oauth"


def test_a_name_that_was_entered_is_kept(ann: Client, mcp_server: StartServer) -> None:
    answer = ann.post(ADD, {**BARE, "name": "Our shop", "server_url": mcp_server().url})
    assert answer.context["adminform"].form["name"].value() == "Our shop"


def test_a_server_that_does_not_answer_is_told_and_nothing_is_proposed(ann: Client) -> None:
    answer = ann.post(ADD, {**BARE, "server_url": "http://127.0.0.1:9/mcp"})
    chosen, sentence = proposed(answer)
    assert (chosen, answer.context["look"]["good"]) == ("", False)
    assert sentence


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://ann:pw@127.0.0.1:9/mcp", "@"),
        ("npx -y @acme/mcp-server", "command"),
        ("<http://127.0.0.1:9/mcp>", "The address in what was entered is http://127.0.0.1:9/mcp."),
        ("https://YOUR_HOST/mcp", "placeholder"),
        ("", "required"),
    ],
)
def test_an_address_that_cannot_be_used_is_the_only_mistake(ann: Client, url: str, words: str) -> None:
    answer = ann.post(ADD, {**BARE, "server_url": url})
    errors = answer.context["adminform"].form.errors
    assert set(errors) == {"server_url"}
    assert words in errors["server_url"][0]


def test_a_secret_that_was_entered_names_its_method(ann: Client, acme: House, mcp_server: StartServer) -> None:
    server = mcp_server()
    entered = {**BARE, "server_url": server.url, "name": "Shop", "api_key": "key-of-acme"}
    assert ann.post(ADD, entered).status_code == 302
    assert acme.tenant.connections.get().authorization == "api_key"
    assert not server.requests
    both = ann.post(ADD, {**entered, "name": "Wiki", "headers": "X-Key: key-of-acme"})
    assert "Choose the method that is meant" in both.context["adminform"].form.errors["authorization"][0]
    nameless = ann.post(ADD, {**entered, "name": ""})
    assert "required" in nameless.context["adminform"].form.errors["name"][0]


def test_no_secret_goes_to_a_server_that_is_only_looked_at(ann: Client, mcp_server: StartServer) -> None:
    server = mcp_server()
    ann.post(ADD, {**BARE, "server_url": server.url, "extra_headers": "X-Team: m4rk-0123456789"})
    assert server.requests
    assert not any("m4rk" in str(request) for request in server.requests)


def test_the_script_of_the_form_is_told_the_same(ann: Client, mcp_server: StartServer) -> None:
    server = mcp_server()
    server.rules[:] = [asks_for_api_key]
    shown = ann.post(LOOK, {"server_url": server.url, "authorization": ""}).content.decode()
    assert '<div id="look" data-method="api_key" data-name="127.0.0.1">' in shown
    assert "names no sign-in server" in shown


def test_who_may_not_add_a_connection_makes_us_ask_nobody(
    acme: House, reviewer: User, signed_in: SignedIn, mcp_server: StartServer
) -> None:
    server = mcp_server()
    for user in (acme.member, acme.auditor, reviewer):
        assert signed_in(user).post(ADD, {**BARE, "server_url": server.url}).status_code == 403
    assert not server.requests


def test_from_the_address_to_the_sign_in_in_three_steps(scene: StartScene) -> None:
    scene = scene()
    scene.connection.delete()
    answer = scene.client.post(ADD, {**BARE, "server_url": scene.server.url})
    form = answer.context["adminform"].form
    data = {name: form[name].value() for name in ("server_url", "authorization", "name")} | {"enabled": "on"}
    assert scene.client.post(ADD, data).status_code == 302
    scene.connection = scene.house.tenant.connections.get()
    scene.sign_in()
    scene.probe()
    assert scene.connection.headline == "connected"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mcp.linear.app", "Linear"),
        ("mcp.notion.com", "Notion"),
        ("api.githubcopilot.com", "Githubcopilot"),
        ("orders.acme-tools.example", "Acme tools"),
        ("mcp.shop.co.uk", "Shop"),
        ("example.com", "Example"),
        ("mcp.example", "Mcp"),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("intranet", "intranet"),
        ("acme.onrender.com", "Acme"),
        ("acme-shop.ngrok-free.app", "Acme shop"),
        ("mcp.acme.workers.dev", "Acme"),
        ("shop-1234.europe-west1.run.app", "Shop 1234"),
        ("shop-abc-uc.a.run.app", "Shop abc uc"),
        ("x7y.lambda-url.eu-west-1.on.aws", "X7y"),
        ("mcp.vercel.app", "Mcp"),
        ("vercel.app", "Vercel"),
    ],
)
def test_a_name_is_made_of_the_host(host: str, name: str) -> None:
    assert names.of_host(host) == name

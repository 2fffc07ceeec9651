"""Servers whose key is part of their address: it is sealed, filled in when it is sent, and nowhere else."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from django.http import QueryDict
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from connections import egress, rotation
from connections.egress import sealed
from connections.errors import DuvoError, SecretOfAnotherServer
from connections.forms import ConnectionForm
from connections.models import AuditEvent, Connection, Credential, User
from oauth import discovering
from oauth.models import Discovery
from tests import reading
from tests.conftest import House
from tests.field.test_settings_by_program import NEW, URL, admin, faults
from tests.forms import shown_by
from tests.live import Api
from tests.oauth.conftest import scene
from tests.servers import kinds
from tests.servers.fixtures import StartServer
from tests.servers.running import Incoming, McpServer, Receive, Send
from tests.servers.toolbox import furnished
from tools import mcp_client
from tools.calls import offers
from tools.catalog import upstream
from tools.models import Call

__all__ = ["admin", "scene"]
SignedIn = Callable[[User | None], Client]
Probed = Callable[[Connection], Any]
KEY = "m4rkA1b2C3d4E5f6G7h8"
ADD = "/admin/connections/connection/add/"


def on(connection: Connection) -> str:
    return f"/admin/connections/connection/{connection.pk}/change/"


# --- where the place is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "template"),
    [
        (f"{URL}?apiKey={KEY}", f"{URL}?apiKey={{secret}}"),
        (f"{URL}?a=1&token={KEY}&b=2", f"{URL}?a=1&token={{secret}}&b=2"),
        (f"{URL}?api%5Fkey={KEY}", f"{URL}?api%5Fkey={{secret}}"),
        (f"{URL}?profile=acme&key={KEY}", f"{URL}?profile=acme&key={{secret}}"),
        (f"{URL}/fc-{KEY}/v2", f"{URL}/{{secret}}/v2"),
        (f"{URL}/s/{KEY}/mcp?lang=en", f"{URL}/s/{{secret}}/mcp?lang=en"),
        (f"{URL}/0f9a3c41d2b87e6a5c4b3f2e1d0c9b8a", f"{URL}/{{secret}}"),
        (f"{URL}?x={KEY}", f"{URL}?x={{secret}}"),
        (f"{URL}?pass=hunter2", f"{URL}?pass={{secret}}"),
        (f"{URL}/key={KEY}/v2", f"{URL}/{{secret}}/v2"),
        (f"{URL}/token=hunter2", f"{URL}/{{secret}}"),
        (f"{URL}?config=%7B%22apiKey%22%3A%22hunter2%22%7D", f"{URL}?config={{secret}}"),
        (f"{URL}?db_pass=hunter2", f"{URL}?db_pass={{secret}}"),
        (f"{URL}?userPass=hunter2", f"{URL}?userPass={{secret}}"),
        (f"{URL}?pat=hunter2", f"{URL}?pat={{secret}}"),
        (f"{URL}?passphrase=hunter2", f"{URL}?passphrase={{secret}}"),
        (f"{URL}?x-passcode=hunter2", f"{URL}?x-passcode={{secret}}"),
        (f"{URL}?app_key=hunter2", f"{URL}?app_key={{secret}}"),
        (f"{URL}?jwt=hunter2", f"{URL}?jwt={{secret}}"),
        (f"{URL}/bot123:AAH-x9_hunter2hunter2", f"{URL}/{{secret}}"),
        (f"{URL}/bot123:AAH-x9_hunter2hunter2/mcp", f"{URL}/{{secret}}/mcp"),
    ],
)
def test_an_address_is_taken_apart(address: str, template: str) -> None:
    parted = sealed.split(address, random=True)
    assert parted is not None
    assert parted.address == template
    assert sealed.filled(parted.address, parted.secret) == address
    assert KEY not in parted.where


@pytest.mark.parametrize(
    "part",
    [
        "", "/v2", "?page_token=", "?key=1", "?profile=acme", "/my-company-production-server-2024-11",
        "/OrderSystemProductionServer", "/projects/6f1c2a3b-4d5e-4f60-8a9b-0c1d2e3f4a5b", "?userId=" + KEY,
        "/accounts/12345678901234567890/mcp", f"?api_key={KEY}&token={KEY}", "?key={secret}",
        "/release-2024-q3-candidate-12", "?bypass=cache", "?compass=north", "?path=orders", "/bot123:AAH",
        "/skateboards-of-the-world", "/glass-blowing-studio", "?sort_key=name", "?pwa=true",
        "/lang=en/mcp", ";v=2", "/key=1", "?config=%7B%22region%22%3A%22eu%22%7D",
        "/api/v2/databases/ANALYTICS_PROD/schemas/PUBLIC/mcp-servers/SALES",
    ],
)  # fmt: skip
def test_other_addresses_stay_as_they_are(part: str) -> None:
    assert sealed.split(URL + part, random=True) is None


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=40))
def test_what_is_entered_reaches_the_server_as_it_was(secret: str) -> None:
    if "%" in secret:
        return  # it may be escaped already
    wire = sealed.escaped(secret)
    query = urlsplit(sealed.filled(f"{URL}?a=1&key={{secret}}&b=2", wire)).query
    assert parse_qsl(query, keep_blank_values=True) == [("a", "1"), ("key", secret), ("b", "2")]
    path = urlsplit(sealed.filled(f"{URL}/{{secret}}/x", wire)).path
    assert [unquote(step) for step in path.split("/")][2:] == [secret, "x"]


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (f"{URL}?key={{secret}}", URL),
        (f"{URL}?a=1&key={{secret}}&b=2", f"{URL}?a=1&b=2"),
        (f"{URL}/s/{{secret}}/mcp?a=1", f"{URL}/s"),
        (f"{URL}?apiKey={KEY}", URL),
        (f"{URL}?a=1", f"{URL}?a=1"),
        ("https://h.example/{secret}", "https://h.example"),
    ],
)
def test_a_server_is_named_to_others_without_its_secret(template: str, named: str) -> None:
    assert egress.without(template) == named


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"{URL}?apiKey={KEY}", URL),
        (f"{URL}/{KEY}/v2?a=1", f"{URL}/…/v2"),
        (f"{URL}/fc-{KEY}", f"{URL}/…"),
        (f"{URL}/token=hunter2/v2", f"{URL}/…/v2"),
        ("https://h.example/mcp;token=hunter2/v2", "https://h.example/…/v2"),
        ("https://h.example/mcp;v=2/a=b", "https://h.example/mcp;v=2/a=b"),
        (f"{URL}/6f1c2a3b-4d5e-4f60-8a9b-0c1d2e3f4a5b", f"{URL}/…"),
        (f"{URL}/s/{{secret}}/mcp", f"{URL}/s/{{secret}}/mcp"),
        ("https://h.example", "https://h.example"),
        ("https://h.example/api/my-company/mcp", "https://h.example/api/my-company/mcp"),
    ],
)
def test_everybody_may_see_no_more_than_this(address: str, shown: str) -> None:
    assert egress.bare(address) == shown


# --- at the form ------------------------------------------------------------------------------------------------------


def filled(house: House, connection: Connection | None = None, **fields: str) -> ConnectionForm:
    sent = QueryDict(mutable=True)
    start = {"name": "Orders", "server_url": URL, "authorization": "none", "enabled": "on"}
    if connection is not None:
        start |= {
            name: value for name, value in ConnectionForm.data_of(connection).items() if value not in (None, False)
        }
    sent.update({name: str(value) for name, value in {**start, **fields}.items()})
    return ConnectionForm(sent, instance=connection, tenant=house.tenant, user=house.admin)


def kept(form: ConnectionForm) -> Connection:
    assert form.is_valid(), form.errors
    return form.save()


PASTES = [
    f"{URL}?apiKey={KEY}", f"{URL}?a=1&token={KEY}", f"{URL}?key={KEY}", f"{URL}/s/{KEY}/mcp", f"{URL}/fc-{KEY}/v2",
    f"<{URL}?apiKey={KEY}>", f"claude mcp add orders {URL}?apiKey={KEY}", f"url: {URL}/s/{KEY}/mcp",
]  # fmt: skip


@pytest.mark.usefixtures("open_egress")
@pytest.mark.parametrize("paste", PASTES)
def test_a_pasted_secret_is_sealed_with_one_click_and_is_on_no_page(
    acme: House, signed_in: SignedIn, paste: str
) -> None:
    client = signed_in(acme.admin)
    start = {"name": "Orders", "authorization": "none", "enabled": "on"}
    page = client.post(ADD, {**start, "server_url": paste})
    assert page.status_code == 200
    assert KEY not in page.content.decode()
    assert "is sealed" in page.content.decode()
    form = page.context["adminform"].form
    again = {**start, "server_url": form["server_url"].value(), "carried_secret": form["carried_secret"].value()}
    saved = client.post(ADD, again)
    assert saved.status_code == 302, saved.content.decode()
    row = acme.tenant.connections.get()
    assert sealed.filled(row.server_url, row.secret("address_secret")) in paste
    assert "{secret}" in row.server_url
    for user in (acme.admin, acme.member, acme.auditor):
        for path in (on(row), ADD.replace("add/", ""), on(row).replace("change", "history")):
            assert KEY not in signed_in(user).get(path, follow=True).content.decode()
    event = AuditEvent.objects.get(action="connection.created")
    assert event.data["secrets"] == ["address_secret set"]
    assert "carried_secret" not in event.data["fields"]


@pytest.mark.django_db
@pytest.mark.usefixtures("open_egress")
def test_a_pasted_secret_may_stay_readable_on_purpose(acme: House) -> None:
    form = filled(acme, server_url=f"{URL}?apiKey={KEY}")
    assert not form.is_valid()
    assert form.asks_about_url_secret
    carried = {name: form.data[name] for name in ("server_url", "carried_secret")}
    assert kept(filled(acme, keep_url_secret="on", **carried)).server_url == f"{URL}?apiKey={KEY}"


@pytest.mark.django_db
@pytest.mark.usefixtures("open_egress")
def test_what_waits_on_a_page_is_of_that_person_and_server(acme: House) -> None:
    form = filled(acme, server_url=f"{URL}?apiKey={KEY}")
    assert not form.is_valid()
    blob = form.data["carried_secret"]
    assert filled(acme, server_url=f"{URL}/other?k={{secret}}", carried_secret=blob).is_valid()
    elsewhere = filled(acme, server_url="http://127.0.0.1:10/mcp?k={secret}", carried_secret=blob)
    assert [fault.code for fault in elsewhere.errors.as_data()["address_secret"]] == ["required"]
    by_another = filled(acme, server_url=f"{URL}?k={{secret}}", carried_secret=blob)
    by_another.user = acme.member
    assert [fault.code for fault in by_another.errors.as_data()["address_secret"]] == ["required"]
    forged = filled(acme, server_url=f"{URL}?k={{secret}}", carried_secret=blob[:-4] + "AAAA")
    assert not forged.is_valid()


@pytest.mark.django_db
@pytest.mark.usefixtures("open_egress")
@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"server_url": f"{URL}?key={{secret}}"}, "address_secret", "required"),
        ({"address_secret": KEY}, "address_secret", "no_place"),
        ({"server_url": f"{URL}?a={{secret}}&b={{secret}}", "address_secret": KEY}, "server_url", "bad_place"),
        ({"server_url": f"{URL}?{{secret}}=1", "address_secret": KEY}, "server_url", "bad_place"),
        ({"server_url": "http://{secret}.example.com/mcp", "address_secret": KEY}, "server_url", "host_invalid"),
        ({"server_url": f"{URL}?key={{{{secret}}}}", "address_secret": KEY}, "server_url", "placeholder"),
        ({"server_url": f"{URL}?key={{API_KEY}}", "address_secret": KEY}, "server_url", "placeholder"),
        ({"server_url": f"{URL}?key=${{secret}}", "address_secret": KEY}, "server_url", "placeholder"),
        ({"server_url": f"{URL}?key={{secret}}", "address_secret": "<your-api-key>"}, "address_secret", "placeholder"),
        ({"server_url": f"{URL}?key={{secret}}", "address_secret": "ab1" * 680}, "address_secret", "too_long"),
    ],
)
def test_a_place_and_its_secret_belong_together(acme: House, fields: dict[str, str], field: str, code: str) -> None:
    assert [fault.code for fault in filled(acme, **fields).errors.as_data()[field]] == [code]


@pytest.mark.django_db
@pytest.mark.usefixtures("open_egress")
def test_a_secret_is_kept_with_its_server_and_asked_for_again_elsewhere(acme: House) -> None:
    def change(**fields: str) -> ConnectionForm:
        return filled(acme, Connection.objects.get(), **fields)

    kept(filled(acme, server_url=f"{URL}?key={{secret}}", address_secret=KEY))
    assert kept(change(server_url=f"{URL}/2?k={{secret}}")).secret("address_secret") == KEY
    there = "http://127.0.0.1:10/mcp?key={secret}"
    fault = change(server_url=there).errors.as_data()["address_secret"]
    assert [one.code for one in fault] == ["secret_of_another_server"]
    kept(change(server_url=there, address_secret="new-one"))
    assert Connection.objects.get().secret("address_secret") == "new-one"
    kept(change(server_url=URL))
    assert not Credential.objects.exists(), "without its place it is forgotten"


@pytest.mark.django_db
def test_rows_that_were_moved_open_nothing(acme: House) -> None:
    row = acme.connection("Orders", "https://8.8.8.8/mcp?key={secret}")
    with pytest.raises(SecretOfAnotherServer):
        row.request_headers()
    Credential(connection=row, kind="address_secret").set(KEY, by=acme.admin)
    assert (sealed.PLACE, KEY) in Connection.objects.get(pk=row.pk).request_headers()
    Connection.objects.update(server_url="https://8.8.4.4/mcp?key={secret}")
    with pytest.raises(SecretOfAnotherServer):
        Connection.objects.get(pk=row.pk).request_headers()


@pytest.mark.django_db
@pytest.mark.usefixtures("open_egress")
def test_a_stored_secret_is_sealed_with_one_tick(acme: House, signed_in: SignedIn) -> None:
    row = acme.connection("Orders", f"{URL}?apiKey={KEY}")
    client = signed_in(acme.admin)
    page = client.get(on(row))
    assert "Seal the secret in the address" in page.content.decode()
    assert client.post(on(row), shown_by(page)).status_code == 302, "nobody has to"
    page = client.get(on(row))
    assert client.post(on(row), {**shown_by(page), "move_url_secret": "on"}).status_code == 302
    row = Connection.objects.get()
    assert (row.server_url, row.secret("address_secret")) == (f"{URL}?apiKey={{secret}}", KEY)
    assert "Seal the secret in the address" not in client.get(on(row)).content.decode()


# --- by program -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [f"?apiKey={KEY}", f"?a=1&token={KEY}", f"/s/{KEY}/mcp"])
def test_a_program_is_told_how_to_send_it(admin: Api, acme: House, part: str) -> None:
    answer = admin.post("/v1/connections", {**NEW, "server_url": URL + part})
    assert KEY not in answer.text
    code, sentence = faults(answer)["/server_url"]
    assert (code, "`address_secret`" in sentence, "{secret}" in sentence) == ("secret_in_url", True, True)
    template = (URL + part).replace(KEY, "{secret}")
    made = admin.post("/v1/connections", {**NEW, "server_url": template, "address_secret": KEY})
    assert made.status_code == 201, made.text
    assert KEY not in made.text
    assert made.json()["server_url"] == template
    path = f"/v1/connections/{made.json()['id']}"
    assert admin.request("PATCH", path, json={"name": "Renamed"}).status_code == 200
    elsewhere = admin.request("PATCH", path, json={"server_url": template.replace(":9/", ":10/")})
    assert faults(elsewhere)["/address_secret"][0] == "secret_of_another_server"
    assert faults(admin.request("PATCH", path, json={"server_url": URL, "address_secret": KEY}))["/address_secret"]
    for user in (acme.member, acme.auditor):
        shown = admin.as_(acme.member_token(user)).get(path)
        assert KEY not in shown.text
        assert "?" not in shown.json()["server_url"]


def test_no_method_is_needed_beside_it(admin: Api, acme: House) -> None:
    sent = {**NEW, "server_url": f"{URL}?key={{secret}}", "address_secret": KEY, "api_key": "abc"}
    assert admin.post("/v1/connections", sent).status_code == 201
    row = acme.tenant.connections.get()
    assert dict(row.request_headers()) == {"Authorization": "Bearer abc", sealed.PLACE: KEY}


# --- what is sent, and what is not said -------------------------------------------------------------------------------


async def _only_with_the_key(server: McpServer, request: Incoming, _: Receive, send: Send) -> bool:
    """Let nobody in whose address lacks the key, and repeat the address to who has it wrong."""
    if KEY in f"{request.path}?{request.query}":
        return False
    return await kinds.respond(send, 401, f"{request.path}?{request.query}".encode())


async def _repeats(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    seen = f"http://h{request.path}?{request.query}"
    body = json.dumps({"error": {"code": -32000, "message": f"No: {seen}"}, "id": request.rpc_id, "jsonrpc": "2.0"})
    return await kinds.respond(send, 400, body.encode(), www_authenticate=f'Bearer scope="{seen}"', x_reason=seen)


async def _redirects(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    return await kinds.respond(send, 307, location=f"{request.path}/moved?{request.query}")


async def _nonsense(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    return await kinds.respond(send, 200, f"{request.path}?{request.query}".encode())


@pytest.mark.parametrize("kind", ["modern", "legacy"])
def test_the_secret_reaches_its_server_and_is_said_nowhere(
    api: Api, acme: House, mcp_server: StartServer, probed: Probed, caplog: pytest.LogCaptureFixture,
    signed_in: SignedIn, reviewer: User, kind: str,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    server = mcp_server(kind, furnished())
    server.rules.insert(0, _only_with_the_key)
    admin = api.as_(acme.member_token(acme.admin))
    template = f"{server.url}?lang=en&key={{secret}}"
    made = admin.post("/v1/connections", {"name": "Orders", "server_url": template, "address_secret": KEY})
    assert made.status_code == 201, made.text
    row = Connection.objects.get()
    report = probed(row)
    assert report.outcome == "passed", report.stages
    row.refresh_from_db()
    assert row.credential_state == "ready"
    assert {request.query for request in server.requests if request.path == "/mcp"} == {f"lang=en&key={KEY}"}
    assert not [request for request in server.requests if KEY in str(request.headers) or "{secret}" in str(request)]

    assignment = acme.assignment()
    caller = api.as_(acme.token(assignment))
    assert caller.call("orders__echo", {"text": "hello"}).status_code == 200
    assert Call.objects.get().server_url == template
    said = [made.text]
    for rule in (_repeats, _redirects, _nonsense):
        server.behave(rule)
        offers.forget()
        refused = caller.call("orders__echo", {"text": "hello"})
        said.append(refused.text + str(refused.headers))
        probed(row)
        said.append(_raised(row))
    for token in (caller, admin, api.as_(acme.member_token(acme.member))):
        said += [token.get(path).text for path in (f"/v1/connections/{row.pk}", "/v1/connections", "/v1/schema")]
    for user in (acme.admin, acme.member, acme.auditor, reviewer):
        client = signed_in(user)
        said += [client.get(path, follow=True).content.decode() for path in reading.admin_pages()]
    assert not [text for text in said if KEY in text]
    assert [line for line in reading.log_lines(caplog) if KEY in line] == []
    assert [name for name, content in reading.tables() if KEY in content] == []
    assert [line for line in reading.rows() if KEY in line] == []


def _raised(connection: Connection) -> str:
    server = upstream.server_for(connection)
    try:
        egress.run(mcp_client.call_tool(server, "echo", {"text": "hello"}))
    except DuvoError as error:
        return "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(server)
    pytest.fail("a hostile server was believed")


def test_a_secret_in_the_path_reaches_its_server(
    acme: House, mcp_server: StartServer, probed: Probed, transactional_db: None, open_egress: None
) -> None:
    server = mcp_server("modern", furnished())
    row = acme.connection("Orders", server.url.replace("/mcp", "/{secret}"))
    Credential(connection=row, kind="address_secret").set("mcp", by=acme.admin)
    assert probed(row).outcome == "passed"


def test_a_wrong_secret_is_told_as_that(
    acme: House, mcp_server: StartServer, probed: Probed, transactional_db: None, open_egress: None
) -> None:
    server = mcp_server("modern", furnished())
    server.rules.insert(0, _only_with_the_key)
    row = acme.connection("Orders", f"{server.url}?key={{secret}}")
    Credential(connection=row, kind="address_secret").set("another-key", by=acme.admin)
    assert probed(row).outcome == "failed"
    row.refresh_from_db()
    assert (row.credential_state, row.credential_reason) == ("refused", "unauthorized")
    assert "another-key" not in row.credential_sentence


def test_a_request_without_its_secret_is_not_sent_with_it_as_a_header(
    mcp_server: StartServer, open_egress: None
) -> None:
    server = mcp_server("modern", furnished())
    with pytest.raises(DuvoError) as refusal:
        egress.run(egress.fetch("GET", server.url, headers={sealed.PLACE: KEY}))
    assert KEY not in str(refusal.value)
    assert not [request for request in server.requests if KEY in str(request)]


def test_rotation_seals_it_anew(acme: House, settings: Any) -> None:
    row = acme.connection("Orders", "https://8.8.8.8/mcp?key={secret}")
    Credential(connection=row, kind="address_secret").set(KEY, by=acme.admin)
    before = Credential.objects.get().sealed
    settings.SEAL_KEYS = ["bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleSE=", *settings.SEAL_KEYS]
    list(rotation.rotate())
    assert Credential.objects.get().sealed != before
    assert Connection.objects.get().secret("address_secret") == KEY


# --- signing in beside it ---------------------------------------------------------------------------------------------


def test_signing_in_names_the_server_without_its_secret(scene: Any) -> None:
    scene = scene()
    scene.server.rules.insert(0, _only_on_mcp_with_the_key)
    Connection.objects.update(server_url=f"{scene.server.url}?key={{secret}}")
    row = Connection.objects.get()
    Credential(connection=row, kind="address_secret").set(KEY, by=scene.house.admin)
    scene.connection.refresh_from_db()
    scene.sign_in()
    assert scene.probe().outcome == "passed"
    asked = [*scene.auth.authorizations, *scene.auth.token_requests]
    assert {form["resource"] for form in asked} == {scene.server.url}
    assert not [request for request in scene.auth.requests if KEY in str(request)]
    assert not [name for name, content in reading.tables() if KEY in content]


async def _only_on_mcp_with_the_key(server: McpServer, request: Incoming, receive: Receive, send: Send) -> bool:
    return request.path == "/mcp" and await _only_with_the_key(server, request, receive, send)


@pytest.mark.parametrize("member", ["resource", "issuer", "challenge"])
def test_a_server_that_repeats_its_secret_in_metadata_spreads_it_nowhere(scene: Any, member: str) -> None:
    scene = scene(protected={"metadata": "path"})

    async def repeats(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        url = f"{scene.server.url}?key={KEY}"
        if request.path == "/mcp" and member == "challenge":
            pointer = f"{scene.server.url.replace('/mcp', '')}/nothing?key={KEY}"
            return await kinds.respond(send, 401, www_authenticate=f'Bearer resource_metadata="{pointer}"')
        issuers = [f"{scene.auth.issuer}/{KEY}" if member == "issuer" else scene.auth.issuer]
        body = json.dumps({"resource": url, "authorization_servers": issuers}).encode()
        return "oauth-protected-resource" in request.path and await kinds.respond(send, 200, body)

    scene.server.rules.insert(0, repeats)
    Connection.objects.update(server_url=f"{scene.server.url}?key={{secret}}")
    row = Connection.objects.get()
    Credential(connection=row, kind="address_secret").set(KEY, by=scene.house.admin)
    discovering.discover_and_store(row)
    assert Discovery.objects.exists()
    assert not [name for name, content in reading.tables() if KEY in content]
    scene.connection.refresh_from_db()
    scene.press("sign-in")
    assert not [form for form in scene.auth.authorizations if KEY in str(form)]


# --- searching --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_nobody_finds_a_connection_by_what_is_secret_in_its_address(
    acme: House, reviewer: User, superuser: User, signed_in: SignedIn
) -> None:
    acme.connection("Query", f"https://a.example.com/mcp?apiKey={KEY}")
    acme.connection("Path", f"https://b.example.com/s/{KEY}/mcp")
    acme.connection("Plain", "https://c.example.com/orders/mcp?lang=en")
    acme.connection("Sealed", "https://d.example.com/mcp?key={secret}")
    acme.connection("No path", f"https://e.example.com?apiKey={KEY}")

    def found(user: User, text: str) -> list[str]:
        page = signed_in(user).get("/admin/connections/connection/", {"q": text}).content.decode()
        return sorted(re.findall(r'change/[^"]*">([^<]+) <span', page))

    for user in (acme.admin, acme.member, acme.auditor, reviewer, superuser):
        for text in (KEY, KEY[:4], KEY[-3:], "apiKey", "?", f"b.example.com/s/{KEY[0]}", "lang=en", "{secret}"):
            assert found(user, text) == [], (user, text)
        assert found(user, "a.example.com/mcp") == ["Query"]
        assert found(user, "b.example.com") == ["Path"]
        assert found(user, "https://c.example.com/orders/mcp") == ["Plain"]
        assert found(user, "e.example.com") == ["No path"]
        assert found(user, "seal") == ["Sealed"]
        assert len(found(user, "example.com")) == 5
        answer = signed_in(user).get("/admin/connections/connection/", {"server_url__contains": KEY[:4]})
        assert KEY not in answer.content.decode()
        assert answer.status_code in {302, 400}

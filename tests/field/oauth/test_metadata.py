"""Documents of the field: other spellings of one address, documents that have moved, members that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oauth import discovering, flow
from oauth.errors import CannotSignIn
from oauth.models import Discovery
from oauth.protocol import addresses, choices
from oauth.protocol.challenges import missing_scopes
from oauth.protocol.discovery import metadata_urls
from oauth.protocol.metadata import MetadataError, ResourceMetadata, ServerMetadata, covers, read
from oauth.protocol.steps import MetadataResponse
from tests.oauth.conftest import StartScene
from tests.oauth.protocol.test_discovery import CHALLENGE, HINT, MCP, document, resource, server, walk
from tests.oauth.test_callback import changed, refused
from tests.oauth.test_sign_in import works
from tests.servers.authorization.metadata import OAUTH
from tests.servers.authorization.protection import HINTED
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartReceiver, StartServer
from tests.servers.kinds import respond
from tests.servers.running import Incoming, Receive, Rule, Send

LOGIN = "https://login.example.com"

# --- other spellings --------------------------------------------------------------------------------------------------

SAME = [
    (LOGIN, f"{LOGIN}/"),
    (f"{LOGIN}/", LOGIN),
    (LOGIN, "HTTPS://Login.Example.COM"),
    (LOGIN, f"{LOGIN}:443"),
    (f"{LOGIN}:443/", LOGIN),
    (f"{LOGIN}/tenants/%61cme", f"{LOGIN}/tenants/acme"),
    (f"{LOGIN}/a%2fb", f"{LOGIN}/a%2Fb"),
    (f"{LOGIN}/./acme", f"{LOGIN}/acme"),
]
OTHER = [
    (LOGIN, f"{LOGIN}/acme"),
    (f"{LOGIN}/acme", f"{LOGIN}/acme/"),
    (f"{LOGIN}/acme", f"{LOGIN}/Acme"),
    (LOGIN, "http://login.example.com"),
    (LOGIN, f"{LOGIN}:8443"),
    (LOGIN, "https://login.example.com.evil.example"),
    (f"{LOGIN}/a/b", f"{LOGIN}/a%2Fb"),
    (LOGIN, f"{LOGIN}/?tenant=acme"),
    (LOGIN, f"{LOGIN}//"),
    (f"{LOGIN}/acme", f"{LOGIN}/rival/.."),
]


def described(named: str, said: str) -> Any:
    """What the walk makes of a resource that names one issuer, whose document says another."""
    found = document(issuer=said, token_endpoint=f"{LOGIN}/token")
    return walk({MCP: CHALLENGE, HINT: resource(named)} | dict.fromkeys(metadata_urls(named), found))


@pytest.mark.parametrize(("named", "said"), SAME)
def test_an_issuer_may_be_spelled_in_two_ways(named: str, said: str) -> None:
    found = described(named, said).found
    assert found is not None
    assert found.server.issuer == said
    assert found.trusted == (said,)


@pytest.mark.parametrize(("named", "said"), OTHER)
def test_another_issuer_stays_refused(named: str, said: str) -> None:
    walked = described(named, said)
    assert walked.refusal is not None
    assert walked.refusal.code in {"metadata_refused", "no_authorization_server"}
    assert not addresses.same(named, said)


def test_the_iss_of_an_answer_is_compared_as_text(scene: StartScene) -> None:
    scene = scene()
    callback = approve(scene.depart())
    port = scene.auth.port
    for iss in (f"{scene.auth.issuer}/", f"HTTP://127.0.0.1:{port}", f"http://127.0.0.1:{port}/.", " "):
        refused(scene, scene.come_back(changed(callback, iss=iss)), "from another sign-in server")
    assert scene.come_back(callback).status_code == 302


@pytest.mark.parametrize(
    ("described_", "asked", "fits"),
    [
        ("https://mcp.example.com:443/mcp", "https://mcp.example.com/mcp", True),
        ("HTTPS://MCP.Example.com/mcp", "https://mcp.example.com/mcp", True),
        ("https://mcp.example.com/%6Dcp", "https://mcp.example.com/mcp", True),
        ("https://mcp.example.com/", "https://mcp.example.com", True),
        ("https://mcp.example.com/mcp/../other", "https://mcp.example.com/mcp", False),
        ("https://mcp.example.com/other/..", "https://mcp.example.com/mcp", True),
        ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp/../admin", False),
        ("http://mcp.example.com/mcp", "https://mcp.example.com/mcp", False),
        ("https://mcp.example.com:8443/", "https://mcp.example.com/mcp", False),
        ("https://user@mcp.example.com/mcp", "https://mcp.example.com/mcp", False),
    ],
)
def test_a_resource_may_be_spelled_in_two_ways(described_: str, asked: str, fits: bool) -> None:
    assert covers(described_, asked) is fits


def test_a_sign_in_outlives_another_spelling_of_its_issuer(scene: StartScene) -> None:
    scene = scene()
    works(scene)
    scene.server.rules.insert(0, resource_names(scene.server.url, f"{scene.auth.issuer}/"))
    flow.discover_again(scene.connection.pk)
    assert scene.sign_in_row.ended_at is None
    scene.server.rules[0] = resource_names(scene.server.url, f"{scene.auth.issuer}/acme")
    flow.discover_again(scene.connection.pk)
    assert scene.sign_in_row.ended_at is None  # its metadata is missing, which proves no change


def resource_names(url: str, issuer: str) -> Rule:
    body = json.dumps({"resource": url, "authorization_servers": [issuer]}).encode()

    async def describe(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path == "/about/this/resource" and await respond(send, 200, body)

    return describe


# --- challenges -------------------------------------------------------------------------------------------------------

CHALLENGES = [
    "Bearer resource_metadata='U'",
    "Bearer scope='read write', resource_metadata='U'",
    "Bearer resource_metadata=<U>",
    'Bearer resource_metadata=" U "',
    'Bearer, resource_metadata="U"',
    'Bearer; resource_metadata="U"; scope="read write"',
    'Bearer realm="MCP"; resource_metadata="U"',
    'Bearer realm=MCP Server, resource_metadata="U"',
    'Bearer scope=read write, resource_metadata="U"',
    'Bearer error="invalid_token", Bearer resource_metadata="U"',
    'Bearer realm="a", Basic realm="b", resource_metadata="U"',
    'DPoP algs="ES256", resource_metadata="U"',
    'OAuth resource_metadata="U"',
    'resource_metadata="U"',
]


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_a_challenge_names_the_metadata_in_many_ways(challenge: str) -> None:
    asks = MetadataResponse(401, b"", challenge.replace("U", HINT))
    walked = walk({MCP: asks, HINT: resource(), metadata_urls(LOGIN)[0]: server()})
    assert (walked.found is not None, walked.asked[1]) == (True, HINT)


@pytest.mark.parametrize(
    ("issuer", "named"),
    [
        (LOGIN, f"{LOGIN}/.well-known/openid-configuration"),
        (LOGIN, f"{LOGIN}/.well-known/oauth-authorization-server"),
        (f"{LOGIN}/acme", f"{LOGIN}/acme/.well-known/openid-configuration"),
        (f"{LOGIN}/acme", f"{LOGIN}/.well-known/oauth-authorization-server/acme"),
    ],
)
def test_a_server_may_be_named_by_its_document(issuer: str, named: str) -> None:
    answers = {MCP: CHALLENGE, HINT: resource(named)}
    found = walk(answers | dict.fromkeys(metadata_urls(issuer), server(issuer))).found
    assert (found.server.issuer, found.trusted) == (issuer, (issuer,))
    other = walk(answers | dict.fromkeys(metadata_urls(issuer), server(f"{issuer}/other")))
    assert other.refusal.code == "metadata_refused"


def test_metadata_of_another_server_stays_refused_however_it_is_named() -> None:
    asks = MetadataResponse(401, b"", "Bearer resource_metadata='https://evil.example/about'")
    other = resource(of="https://evil.example/mcp")
    assert walk({MCP: asks, "https://evil.example/about": other}).refusal is not None


@pytest.mark.parametrize(
    ("challenge", "scopes"),
    [
        ("Bearer error='insufficient_scope', scope='read write'", "read write"),
        ("Bearer error=insufficient_scope, scope=read write", "read write"),
        ('Bearer error="INSUFFICIENT_SCOPE", scope="read"', "read"),
        ('Bearer error="insufficient_scope"; scope="read"', "read"),
        ('Bearer error="insufficient_scope", error_description="Missing scopes: read, write"', "read write"),
        ("Bearer error='invalid_token', scope='read'", None),
        ('DPoP error="insufficient_scope", scope="read"', None),
    ],
)
def test_a_challenge_names_the_scopes_in_many_ways(challenge: str, scopes: str | None) -> None:
    assert missing_scopes(challenge) == scopes


# --- the template of Entra --------------------------------------------------------------------------------------------

ENTRA = "https://login.microsoftonline.com"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (f"{ENTRA}/common/v2.0", f"{ENTRA}/{{tenantid}}/v2.0"),
        (f"{ENTRA}/organizations/v2.0", f"{ENTRA}/{{tenantid}}/v2.0"),
        (f"{ENTRA}/common/v2.0", f"{ENTRA}/%7Btenantid%7D/v2.0"),
        ("https://sts.windows.net/common/", "https://sts.windows.net/{tenantid}/"),
    ],
)
def test_the_issuer_of_a_shared_endpoint_is_a_template(named: str, said: str) -> None:
    found = described(named, said).found
    assert found is not None
    assert (found.server.issuer, found.trusted) == (named, (named,))


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (f"{ENTRA}/common/v2.0", "https://login.evil.example/{tenantid}/v2.0"),
        (f"{ENTRA}/common/v2.0", f"{ENTRA}/{{tenantid}}/v1.0"),
        (f"{ENTRA}/common/v2.0", f"{ENTRA}/{{tenantid}}"),
        (f"{ENTRA}/common/v2.0", f"{ENTRA}/{{tenantid}}/{{tenantid}}"),
        (f"{ENTRA}/common/v2.0", f"{ENTRA}/{{tenant}}/v2.0"),
        (f"{ENTRA}/common/v2.0", f"{ENTRA}/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"),
        (ENTRA, f"{ENTRA}/{{tenantid}}"),
        (f"{ENTRA}/common/v2.0", f"{ENTRA}/common/{{tenantid}}"),
        (f"{LOGIN}/common/v2.0", f"{LOGIN}/{{tenantid}}/v2.0"),
        (
            "https://login.microsoftonline.com.evil.example/common/v2.0",
            "https://login.microsoftonline.com.evil.example/{tenantid}/v2.0",
        ),
    ],
)
def test_a_template_of_anything_else_stays_refused(named: str, said: str) -> None:
    assert described(named, said).refusal.code == "metadata_refused"


# --- documents that have moved ----------------------------------------------------------------------------------------


def moved(*targets: str, status: int = 302) -> Rule:
    """A rule that leads from the well-known path through these places."""
    way = dict(zip(["/.well-known/oauth-authorization-server", *targets], targets, strict=False))

    async def lead(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path in way and await respond(send, status, location=way[request.path])

    return lead


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("hops", [["/elsewhere"], ["/a", "/b", "/elsewhere"]], ids=["one hop", "three hops"])
def test_a_document_that_has_moved_within_its_server_is_found(scene: StartScene, status: int, hops: list[str]) -> None:
    scene = scene()
    scene.auth.behave(moved(*hops, status=status))
    works(scene)
    step = Discovery.objects.get().steps[-1]
    assert step["conclusion"].startswith(f"Found at {scene.auth.origin}/elsewhere. It offers")


def test_a_document_that_moves_on_and_on_is_not_followed_for_ever(scene: StartScene) -> None:
    scene = scene()
    scene.auth.behave(moved("/a", "/b", "/c", "/elsewhere"))
    scene.probe()
    assert scene.state == ("missing", "metadata_unavailable")
    assert [request.path for request in scene.auth.requests][:4] == [
        "/.well-known/oauth-authorization-server", "/a", "/b", "/c",
    ]  # fmt: skip
    assert scene.auth.at("/elsewhere") == []
    assert any("moved more than three times" in step["conclusion"] for step in Discovery.objects.get().steps)


def test_a_document_that_has_moved_still_has_to_be_its_issuers(scene: StartScene) -> None:
    scene = scene(metadata_issuer="wrong", hostile="redirect")
    scene.probe()
    assert scene.state == ("missing", "metadata_refused")


@pytest.mark.parametrize(
    "target",
    [
        "ELSEWHERE", "//elsewhere.example.com/x", "https://elsewhere.example.com/x", "http://169.254.169.254/latest",
        "http://127.0.0.1:1/x", "ftp://127.0.0.1/x", "javascript:alert(1)", "http://[::1", "http://user@127.0.0.1/x",
    ],
)  # fmt: skip
def test_a_redirect_to_another_server_is_named_and_not_followed(
    scene: StartScene, webhook_receiver: StartReceiver, target: str
) -> None:
    scene, elsewhere = scene(), webhook_receiver()
    scene.auth.behave(moved(target.replace("ELSEWHERE", elsewhere.url)))
    scene.probe()
    assert scene.state[0] == "missing"
    assert elsewhere.requests == []
    told = [step["conclusion"] for step in Discovery.objects.get().steps]
    assert any("It leads to another server" in conclusion for conclusion in told)


@pytest.mark.parametrize(
    ("asked", "target", "may"),
    [
        ("https://a.example/x", "https://a.example/y", True),
        ("https://a.example/x", "https://A.example:443/y", True),
        ("http://a.example/x", "https://a.example/x", True),
        ("https://a.example/x", "https://a.example:8443/x", True),
        ("https://a.example/x", "http://a.example/x", False),
        ("https://a.example/x", "https://www.a.example/x", False),
        ("https://a.example/x", "https://b.example/x", False),
        ("https://a.example/x", "https://u@a.example/x", False),
        ("https://a.example/x", "x", False),
    ],
)
def test_a_document_moves_within_its_origin_or_by_https_at_its_host(asked: str, target: str, may: bool) -> None:
    assert addresses.may_move(asked, target) is may


def test_a_redirect_of_the_mcp_server_itself_is_not_followed(scene: StartScene) -> None:
    scene = scene()

    async def lead(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path == "/mcp" and await respond(send, 307, location="/other")

    scene.server.behave(lead)
    discovering.discover(discovering.Settings(scene.server.url, headers={"x-api-key": "s3cret-of-acme"}))
    assert all("x-api-key" not in request.headers for request in scene.server.requests if request.path != "/mcp")
    assert all(request.path != "/other" for request in scene.server.requests)


def test_a_session_that_the_server_opened_for_the_look_is_ended(mcp_server: StartServer) -> None:
    server = mcp_server("legacy")
    conclusion = discovering.discover(discovering.Settings(server.url, headers={"x-team": "acme"}))
    assert conclusion.entrance.status == 200
    ends = [request.headers for request in server.requests if request.method == "DELETE"]
    assert [(end["mcp-session-id"], end["x-team"]) for end in ends] == [(server.sessions[0], "acme")]


def session(value: bytes, at: str = "/mcp", **more: str) -> Rule:
    """Answers there that also name a session."""

    async def rule(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        if request.path != at or request.method == "DELETE":
            return False
        headers = [(name.replace("_", "-").encode(), text.encode()) for name, text in more.items()]
        headers += [(b"content-length", b"2"), (b"mcp-session-id", value)]
        await send({"type": "http.response.start", "status": 401 if at == "/mcp" else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})
        return True

    return rule


@pytest.mark.parametrize("value", [b"\xe9\xff", b"caf\xc3\xa9", b"a\x7fb", b"\x80"])
def test_a_session_that_cannot_be_named_is_left_alone(scene: StartScene, value: bytes) -> None:
    scene = scene()
    scene.server.rules.insert(0, session(value, www_authenticate="Bearer"))
    for button in ("check-sign-in", "sign-in"):
        assert scene.press(button).status_code == 302
    assert scene.probe().outcome == "failed"
    assert not [request for request in scene.server.requests if request.method == "DELETE"]


def test_a_document_opens_no_session(scene: StartScene) -> None:
    scene = scene()
    scene.auth.behave(session(b"1234", at=OAUTH))
    scene.server.rules.insert(0, session(b"1234", at=HINTED))
    scene.press("check-sign-in")
    requests = [*scene.server.requests, *scene.auth.requests]
    assert any(request.path == HINTED for request in requests)
    assert not [request for request in requests if request.method == "DELETE"]


# --- members that cannot be read --------------------------------------------------------------------------------------

GOOD = {
    "issuer": LOGIN,
    "token_endpoint": f"{LOGIN}/token",
    "authorization_endpoint": f"{LOGIN}/authorize",
    "code_challenge_methods_supported": ["S256"],
}


def told(**members: Any) -> ServerMetadata:
    return read(json.dumps(GOOD | members).encode(), ServerMetadata)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("scopes_supported", {"read": "Reading"}, None),
        ("scopes_supported", "read write", ["read", "write"]),
        ("scopes_supported", ["read", None, 7], ["read"]),
        ("grant_types_supported", 7, None),
        ("token_endpoint_auth_methods_supported", [None], None),
        ("token_endpoint_auth_methods_supported", "client_secret_post", ["client_secret_post"]),
        ("code_challenge_methods_supported", "S256", ["S256"]),
        ("revocation_endpoint", ["https://login.example.com/revoke"], ""),
        ("revocation_endpoint", 7, ""),
        ("registration_endpoint", {}, ""),
        ("registration_endpoint", False, ""),
        ("client_id_metadata_document_supported", "maybe", False),
        ("client_id_metadata_document_supported", "True", True),
        ("service_documentation", {"any": ["thing"]}, None),
    ],
)
def test_a_member_that_nobody_needs_does_not_spoil_a_document(name: str, value: Any, kept: Any) -> None:
    found = told(**{name: value})
    assert getattr(found, name, None) == kept
    assert (name in found.unread) is (kept in (None, "", False) and name in ServerMetadata.model_fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("revocation_endpoint", "/revoke"), ("revocation_endpoint", "http://169.254.169.254/revoke"),
        ("registration_endpoint", "ftp://login.example.com/register"), ("issuer", 7),
        ("token_endpoint", ["https://login.example.com/token"]), ("token_endpoint", "/token"),
        ("authorization_endpoint", "javascript:alert(1)"), ("authorization_response_iss_parameter_supported", "maybe"),
        ("authorization_response_iss_parameter_supported", []),
    ],
)  # fmt: skip
def test_a_member_that_is_needed_or_decides_what_is_safe_stays_refused(name: str, value: Any) -> None:
    with pytest.raises(MetadataError, match=name):
        told(**{name: value})


@pytest.mark.parametrize("methods", [{"0": "S256"}, 7, ["plain"], "plain", [["S256"]], None])
def test_pkce_that_cannot_be_read_is_not_announced(methods: Any) -> None:
    with pytest.raises(CannotSignIn):
        choices.check_pkce(told(code_challenge_methods_supported=methods))


def test_a_byte_order_mark_is_no_fault() -> None:
    assert read(b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), ServerMetadata).issuer == LOGIN


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        (LOGIN, [LOGIN]),
        ([LOGIN, None, 7], [LOGIN]),
        (["http://[::1", LOGIN], [LOGIN]),
        ([], []),
    ],
)
def test_a_resource_names_the_sign_in_servers_that_can_be_asked(named: Any, kept: list[str]) -> None:
    body = json.dumps({"resource": MCP, "authorization_servers": named, "scopes_supported": 7}).encode()
    assert read(body, ResourceMetadata).authorization_servers == kept


@pytest.mark.parametrize("named", [["http://[::1"], [7], {"url": LOGIN}, "javascript:alert(1)"])
def test_a_resource_that_names_none_that_can_be_asked_is_not_used(named: Any) -> None:
    with pytest.raises(MetadataError, match="authorization_servers"):
        read(json.dumps({"resource": MCP, "authorization_servers": named}).encode(), ResourceMetadata)


def test_what_was_left_out_is_said() -> None:
    places = metadata_urls(LOGIN)
    found = walk({MCP: CHALLENGE, HINT: resource(), places[0]: server(scopes_supported=7)})
    assert found.look.steps[-1].conclusion.endswith("Its “scopes_supported” cannot be read and is left out.")

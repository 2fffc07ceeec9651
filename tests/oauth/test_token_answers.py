"""What token and registration endpoints may answer: tokens, or one of two errors, and nothing kept that was sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connections import egress
from oauth import token_endpoint
from oauth.errors import ProviderRefused, ProviderUnavailable
from oauth.models import Registration, Tokens
from oauth.protocol.metadata import LONGEST_SCOPES, ServerMetadata
from oauth.token_endpoint import LONGEST_TOKEN, Client
from tests.oauth.conftest import StartScene
from tests.servers.fixtures import StartAuthorizationServer
from tests.servers.kinds import respond
from tests.servers.running import Incoming, Receive, Rule, Send

TEN_YEARS = 10 * 365 * 86_400
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
NAMES = ["access_token", "token_type", "refresh_token", "expires_in", "scope", "error", "error_description"]
MEMBERS = st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from(["Bearer", "token", "3600", "read"]))
BODIES = st.one_of(
    st.binary(),
    JSON.map(lambda value: json.dumps(value).encode()),
    MEMBERS.map(lambda members: json.dumps(members).encode()),
    MEMBERS.map(lambda members: urlencode({name: str(value) for name, value in members.items()}).encode()),
)
STATUSES = st.sampled_from([200, 201, 302, 307, 400, 401, 403, 404, 429, 500, 503])

Grant = Callable[..., Tokens]


@pytest.fixture
def granted(authorization_server: StartAuthorizationServer) -> Grant:
    """`granted(body, status=400)`: what `grant` makes of an answer of a real token endpoint."""
    auth = authorization_server()
    server = ServerMetadata(issuer=auth.issuer, token_endpoint=f"{auth.url}/token")
    client = Client("acme-1", "client_secret_post", "m4rk_secret")

    def grant(body: bytes | dict[str, Any], status: int = 200, **fields: str) -> Tokens:
        content = json.dumps(body).encode() if isinstance(body, dict) else body

        async def answer(_: Any, __: Incoming, ___: Receive, send: Send) -> bool:
            return await respond(send, status, content)

        auth.behave(answer)
        return egress.run(token_endpoint.grant(server, client, {"grant_type": "authorization_code", **fields}))

    return grant


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, status=STATUSES)
@example(body=b"a=b&" * 60, status=200)
@example(body=b"[" * 100_000, status=200)
@example(body=b'{"access_token": "a", "expires_in": 1e999}', status=200)
def test_any_answer_is_tokens_or_one_of_two_errors(granted: Grant, body: bytes, status: int) -> None:
    try:
        tokens = granted(body, status)
    except (ProviderRefused, ProviderUnavailable) as failure:
        told = failure
    else:
        told = None
        assert 200 <= status < 300
        assert tokens.access_token.isascii()
        assert tokens.access_token.isprintable()
        assert tokens.expires_in is None or 0 < tokens.expires_in <= TEN_YEARS
        assert tokens.scopes is None or len(tokens.scopes) <= LONGEST_SCOPES
    assert told is None or told.sentence.endswith(".")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("3600", 3600), ('"3600"', 3600), ("3599.5", 3599.5), ("1", 1), ("1e3", 1000), ("0", None), ("-1", None),
        ('"-5"', None), ('"NaN"', None), ('"nan"', None), ('"Infinity"', TEN_YEARS), ('"-Infinity"', None),
        ("1e300", TEN_YEARS), ("99999999999999999999999", TEN_YEARS), ('"' + "9" * 6000 + '"', TEN_YEARS),
        ("null", None), ('""', None), ('"soon"', None), ("[]", None), ("{}", None), ('"2030-01-01"', None),
    ],
)  # fmt: skip
def test_a_lifetime_is_read_as_it_is_written_in_the_field(granted: Grant, written: str, seconds: float | None) -> None:
    assert granted(b'{"access_token": "a", "expires_in": %b}' % written.encode()).expires_in == seconds


@pytest.mark.parametrize(
    "members",
    [
        {"access_token": "with space"}, {"access_token": "with\r\nHeader: x"}, {"access_token": "ünicode"},
        {"access_token": "x" * (LONGEST_TOKEN + 1)}, {"access_token": 7}, {"access_token": ["a"]},
        {"access_token": "a", "token_type": "mac"}, {"access_token": "a", "token_type": "DPoP"},
        {"access_token": "a", "token_type": 5}, {"access_token": ""}, {"token": "a"},
    ],
)  # fmt: skip
def test_a_token_that_cannot_be_sent_is_refused(granted: Grant, members: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable) as failure:
        granted(members)
    assert failure.value.code == "bad_token_answer"


@pytest.mark.parametrize(
    ("members", "scopes"),
    [
        ({}, None), ({"scope": ""}, ""), ({"scope": "read write read"}, "read write"), ({"scope": ["read"]}, None),
        ({"scope": 'ok b"ad'}, "ok"),
    ],
)  # fmt: skip
def test_scopes_are_those_that_were_granted(granted: Grant, members: dict[str, Any], scopes: str | None) -> None:
    assert granted({"access_token": "a", **members}).scopes == scopes


@pytest.mark.parametrize(
    ("status", "members", "error"),
    [
        (400, {"error": "invalid_grant"}, "invalid_grant"), (200, {"error": "bad_verification_code"},
         "bad_verification_code"), (401, {}, "invalid_client"), (400, {"error": {"code": 1}}, ""), (403, {}, ""),
        (400, {"error": "a b"}, ""), (400, {"error": "<b>x</b>"}, ""), (400, {"error": "x" * 100}, ""),
    ],
)  # fmt: skip
def test_a_refusal_keeps_the_code_of_the_error_and_quotes_what_it_says(
    granted: Grant, status: int, members: dict[str, Any], error: str
) -> None:
    with pytest.raises(ProviderRefused) as failure:
        granted({"error_description": "some detail", **members}, status)
    assert failure.value.error == error
    assert failure.value.sentence.endswith("In the provider's own words: “some detail”.")


@pytest.mark.parametrize("status", [204, 302, 404, 405, 408, 429, 500, 503])
def test_trouble_of_the_server_is_no_refusal(granted: Grant, status: int) -> None:
    with pytest.raises(ProviderUnavailable):
        granted({"error": "temporarily_unavailable"}, status)


def _repeats(name: str, member: str) -> Rule:
    async def answer(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        if request.path != "/token":
            return False
        sent = parse_qs(request.body.decode())[name][0]
        token = {"access_token": "t", "token_type": "Bearer"} if member == "scope" else {}
        return await respond(send, 200 if token else 400, json.dumps({**token, member: sent}).encode())

    return answer


@pytest.mark.parametrize("name", ["code", "code_verifier", "client_secret", "refresh_token"])
def test_what_was_sent_is_not_kept_as_an_error_or_a_scope(
    authorization_server: StartAuthorizationServer, name: str
) -> None:
    auth = authorization_server()
    server = ServerMetadata(issuer=auth.issuer, token_endpoint=f"{auth.url}/token")
    client = Client("acme-1", "client_secret_post", "m_rk_secret")
    fields = {"code": "m_rk_code", "code_verifier": "m_rk_verifier", "refresh_token": "m_rk_refresh", "scope": "read"}
    auth.behave(_repeats(name, "error"))
    with pytest.raises(ProviderRefused) as failure:
        egress.run(token_endpoint.grant(server, client, fields))
    assert "m_rk" not in f"{failure.value!r} {failure.value.sentence} {failure.value.error}"
    auth.behave(_repeats(name, "scope"))
    assert egress.run(token_endpoint.grant(server, client, fields)).scopes == ""
    auth.behave(_repeats("scope", "scope"))
    assert egress.run(token_endpoint.grant(server, client, fields)).scopes == "read"


UNUSABLE: list[Any] = [
    {"client_id": "a\0"}, {"client_id": "x" * 3000}, {"client_id": 7.5}, {"client_id": True}, {"client_id": ""}, {}, [],
    None, "x", {"error": "invalid_redirect_uri"}, {"error": {"deep": []}},
]  # fmt: skip


def _registers(answers: list[Any]) -> Rule:
    async def register(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path == "/register" and await respond(send, 201, json.dumps(answers.pop(0)).encode())

    return register


def test_a_registration_that_cannot_be_used_says_so(scene: StartScene) -> None:
    scene = scene()
    scene.auth.behave(_registers(list(UNUSABLE)))
    for answer in UNUSABLE:
        assert scene.press("sign-in")["Location"].endswith("/change/"), answer
        assert scene.said()[0].startswith(("The sign-in server did not register us", "The client ID")), answer
    assert not Registration.objects.exists()


def test_whatever_the_end_of_a_secret_is_a_registration_is_kept(scene: StartScene) -> None:
    scene = scene()
    ends: list[Any] = [0, 1e300, "never", [], True, None, "4102444800", -1]
    scene.auth.behave(
        _registers([{"client_id": "1", "client_secret": "2", "client_secret_expires_at": e} for e in ends])
    )
    for _ in ends:
        Registration.objects.update(retired_at=timezone.now())
        scene.depart()
    assert Registration.objects.count() == len(ends)

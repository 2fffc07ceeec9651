"""Every member of what a provider answers, once as each kind of thing that it should not be: told, and never a 500."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client as Browser

from connections import egress
from connections.people.openid import ProviderFault
from oauth import accounts, discovering, token_endpoint
from oauth.errors import OAuthError
from oauth.models import Tokens
from oauth.protocol.accounts import Account
from oauth.protocol.metadata import ServerMetadata
from oauth.token_endpoint import Client
from tests.connections.people import test_company
from tests.connections.people.test_company import provider
from tests.field.oauth.test_token_endpoints import answering, renewal
from tests.oauth.conftest import StartScene
from tests.oauth.test_sign_in import works
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartAuthorizationServer
from tests.servers.kinds import respond
from tests.servers.openid import OpenIdProvider
from tests.servers.running import Incoming, Receive, Send

__all__ = ["provider"]

# As they are written in JSON.
ODD = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "a fraction": "7.5",
    "a number of 5000 digits": "9" * 5000,
    "empty": '""',
    "text": '"tools"',
    "text with an unseen character": r'"a\u0000b"',
    "long text": f'"{"x" * 20_000}"',
    "a list": '["tools"]',
    "a list of objects": '[{"code": "no", "message": "No"}]',
    "a mixed list": '[null, 1, "tools", {}, []]',
    "an empty object": "{}",
    "an object": '{"message": "No"}',
    "deep": "[" * 3000 + "]" * 3000,
}
ERRORS = ("error", "error_description", "error_uri", "message", "detail", "errors", "code", "errorSummary", "msg")
TOKENS = ("access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token", "ok", "authed_user")


def with_odd(good: dict[str, Any], name: str, value: str) -> str:
    """A JSON object in which one member is what is written."""
    rest = [f"{json.dumps(key)}: {json.dumps(one)}" for key, one in good.items() if key != name]
    return "{" + ", ".join([*rest, f"{json.dumps(name)}: {value}"]) + "}"


def each(good: dict[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """What is odd, and the document with it: for each member each kind of thing."""
    for name in names:
        for kind, value in ODD.items():
            yield f"{name} as {kind}", with_odd(good, name, value)


def is_told(sentence: str) -> bool:
    return sentence.endswith((".", "”", "…")) and len(sentence) < 900 and "Traceback" not in sentence


def attempted(act: Callable[[], Any]) -> str:
    """What is wrong with how something ended: "" for a result, and for an error of ours with a sentence."""
    try:
        act()
    except (OAuthError, ProviderFault, egress.Refused) as failure:
        return "" if is_told(failure.sentence) else f"said {failure.sentence!r}"
    except Exception as fault:  # noqa: BLE001 - that there is none is what these tests are about
        return f"{type(fault).__name__}: {str(fault)[:100]}"
    return ""


def wrong(good: dict[str, Any], names: tuple[str, ...], act: Callable[[str], Any]) -> list[str]:
    found = ((what, attempted(lambda document=document: act(document))) for what, document in each(good, names))
    return [f"{what}: {fault}" for what, fault in found if fault]


# --- token, revocation and registration endpoints ---------------------------------------------------------------------


@pytest.mark.parametrize(("status", "grant_type"), [(200, "authorization_code"), (400, "refresh_token")])
def test_a_token_endpoint(authorization_server: StartAuthorizationServer, status: int, grant_type: str) -> None:
    auth = authorization_server()
    server = ServerMetadata(
        issuer=auth.issuer, token_endpoint=f"{auth.url}/token", revocation_endpoint=f"{auth.url}/token"
    )
    client = Client("acme-1", "client_secret_post", "s3cret-of-acme")

    def ask(document: str) -> None:
        auth.behave(answering("/token", status, document))
        egress.run(token_endpoint.grant(server, client, {"grant_type": grant_type, "refresh_token": "r-0123456"}))

    def revoke(document: str) -> None:
        auth.behave(answering("/token", status, document))
        egress.run(token_endpoint.revoke(server, client, "r-0123456", "refresh_token"))

    good = {"access_token": "a", "token_type": "Bearer"} if status == 200 else {"error": "invalid_request"}
    assert wrong(good, (*TOKENS, *ERRORS), ask) == []
    assert wrong(good, ERRORS, revoke) == []


REGISTERED = (
    "client_id", "client_secret", "client_secret_expires_at", "token_endpoint_auth_method", "redirect_uris", "scope",
    "registration_access_token",
)  # fmt: skip


@pytest.mark.parametrize("status", [201, 400])
def test_a_registration(scene: StartScene, status: int) -> None:
    scene = scene()

    def register(document: str) -> None:
        scene.connection.registrations.all().delete()
        scene.auth.behave(answering("/register", status, document))
        answer = scene.press("sign-in")
        assert answer.status_code == 302
        if answer["Location"].endswith("/change/"):
            assert is_told(scene.said()[0]), scene.said()

    good = {"client_id": "ours"} if status < 300 else {"error": "invalid_client_metadata"}
    names = (*REGISTERED, "error") if status < 300 else ERRORS
    assert wrong(good, names, register) == []


def test_tokens_that_are_kept(scene: StartScene) -> None:
    scene = scene()

    def sign_in(document: str) -> None:
        scene.auth.behave(answering("/token", 200, document))
        answer = scene.come_back(approve(scene.depart()))
        assert answer.status_code in {302, 400}
        scene.connection.refresh_from_db()

    good = {"access_token": "a", "token_type": "Bearer", "refresh_token": "r"}
    assert wrong(good, ("expires_in", "refresh_token", "scope", "id_token"), sign_in) == []


def test_a_renewal(scene: StartScene) -> None:
    scene = scene()
    works(scene)

    def renew(document: str) -> None:
        if scene.sign_in_row.ended_at is not None:
            scene.auth.behave()
            scene.sign_in(again="1")
        scene.auth.behave(answering("/token", 400, document))
        renewal(scene)
        assert is_told(scene.connection.credential_sentence)

    assert wrong({"error": "server_error"}, ("error", "error_description"), renew) == []


# --- documents --------------------------------------------------------------------------------------------------------

ABOUT = (
    "issuer", "authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint",
    "userinfo_endpoint", "jwks_uri", "scopes_supported", "grant_types_supported", "code_challenge_methods_supported",
    "token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported",
    "client_id_metadata_document_supported", "authorization_response_iss_parameter_supported",
)  # fmt: skip


def test_the_metadata_of_an_authorization_server(scene: StartScene) -> None:
    scene = scene()
    auth = scene.auth
    good = {
        "issuer": auth.issuer, "authorization_endpoint": f"{auth.url}/authorize", "token_endpoint": f"{auth.url}/token",
        "registration_endpoint": f"{auth.url}/register", "code_challenge_methods_supported": ["S256"],
    }  # fmt: skip

    def discover(document: str) -> None:
        auth.behave(answering("/.well-known/oauth-authorization-server", 200, document))
        assert is_told(discovering.discover_and_store(scene.connection).sentence)

    assert wrong(good, ABOUT, discover) == []


def test_the_metadata_of_a_resource(scene: StartScene) -> None:
    scene = scene()
    document = ""

    async def about(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return "oauth-protected-resource" in request.path and await respond(send, 200, document.encode())

    scene.server.rules.insert(0, about)

    def discover(written: str) -> None:
        nonlocal document
        document = written
        assert is_told(discovering.discover_and_store(scene.connection).sentence)

    good = {"resource": scene.server.url, "authorization_servers": [scene.auth.issuer]}
    names = ("resource", "authorization_servers", "scopes_supported", "bearer_methods_supported", "resource_name")
    assert wrong(good, names, discover) == []


# --- who somebody is --------------------------------------------------------------------------------------------------

CLAIMS = ("iss", "sub", "aud", "azp", "exp", "iat", "nonce", "email", "email_verified", "name", "preferred_username")


def test_an_account_at_a_provider(authorization_server: StartAuthorizationServer) -> None:
    auth = authorization_server()
    server = ServerMetadata(
        issuer=auth.issuer, token_endpoint=f"{auth.url}/token", userinfo_endpoint=f"{auth.url}/userinfo"
    )

    def find(document: str) -> Account:
        auth.behave(answering("/userinfo", 200, document))
        token = f"e30.{base64.urlsafe_b64encode(document.encode()).decode().rstrip('=')}.c2ln"
        account = egress.run(accounts.find(server, "ours", Tokens(access_token="a", id_token=token), "openid"))
        assert max(len(account.id), len(account.name)) <= 200
        assert (account.id + account.name).isprintable()
        return account

    good = {"iss": auth.issuer, "aud": "ours", "sub": "1", "exp": time.time() + 60, "email": "ada@acme.example"}
    assert find(json.dumps(good)).name == "ada@acme.example"
    assert wrong(good, CLAIMS, find) == []


@pytest.mark.django_db
def test_a_company_s_provider(provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connections.people.company_pages.OF_ADDRESS", (10_000, 10_000))

    def come_in() -> None:
        answer = Browser().post(test_company.WAY_IN, {"email": test_company.BEA, "next": ""})
        assert answer.status_code in {302, 403}, answer.status_code
        if answer.status_code == 302 and answer["Location"].startswith(provider.origin):
            browser = Browser()
            back = browser.get(test_company.go(browser))
            assert back.status_code in {302, 403}, back.status_code

    def configured(document: str) -> None:
        provider.instead = {"/.well-known/openid-configuration": document}
        come_in()

    def answered(document: str) -> None:
        provider.instead = {"/token": document}
        come_in()

    def keyed(document: str) -> None:
        provider.instead = {"/keys": document}
        come_in()

    def claimed(document: str) -> None:
        name, value = next(iter(json.loads(document).items()))
        provider.instead, provider.claims = {}, {name: value}
        come_in()

    origin = provider.origin
    ends = {"authorization_endpoint": f"{origin}/authorize", "token_endpoint": f"{origin}/token"}
    configuration = {"issuer": provider.issuer, **ends, "jwks_uri": f"{origin}/keys"}
    names = (*configuration, "token_endpoint_auth_methods_supported", "authorization_response_iss_parameter_supported")
    assert wrong(configuration, names, configured) == []
    assert wrong({}, ("id_token", "error"), answered) == []
    assert wrong({}, ("keys",), keyed) == []
    assert wrong(provider.key.as_dict(private=False), ("kty", "crv", "x", "y", "kid", "alg"), lambda key: keyed(
        f'{{"keys": [{key}]}}'
    )) == []  # fmt: skip
    provider.instead = {}
    odd = [(name, kind, value) for name in CLAIMS for kind, value in ODD.items() if "5000" not in kind]
    claims = [(f"{name} as {kind}", f'{{"{name}": {value}}}') for name, kind, value in odd if kind not in UNSENDABLE]
    faults = [f"{what}: {fault}" for what, one in claims if (fault := attempted(lambda one=one: claimed(one)))]
    assert faults == []


UNSENDABLE = {"deep"}  # by the library that signs

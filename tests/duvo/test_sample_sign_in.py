"""The sample that people sign in to, driven by plain HTTP as a believing client would."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from duvo import sample_sign_in
from tests.loopback import NO_TLS
from tests.servers.running import Host, Served
from tools import mcp_client

BACK = "http://127.0.0.1:1/callback"
VERIFIER = "a-verifier-of-more-than-forty-three-characters-of-text"
CHALLENGE = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@dataclass
class Client:
    """A registered client and the browser of its person."""

    origin: str
    http: httpx2.Client
    client_id: str = ""

    @property
    def mcp(self) -> str:
        return f"{self.origin}{sample_sign_in.PATH}"

    def register(self) -> None:
        metadata = {"client_name": "Tea & Sons", "redirect_uris": [BACK], "token_endpoint_auth_method": "none"}
        self.client_id = self.http.post(f"{self.origin}/register", json=metadata).json()["client_id"]

    def consent_page(self) -> httpx2.Response:
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": BACK,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "state": "xyz",
            "scope": sample_sign_in.SCOPE,
            "resource": self.mcp,
        }
        return self.http.get(f"{self.origin}/authorize", params=asked, follow_redirects=True)

    def decide(self, page: httpx2.Response, decision: str, person: str = "ada") -> httpx2.Response:
        form = {"ticket": page.url.params["ticket"], "decision": decision, "person": person}
        return self.http.post(f"{self.origin}/consent", data=form)

    def answer(self, decision: str = "allow", person: str = "ada") -> dict[str, str]:
        response = self.decide(self.consent_page(), decision, person)
        assert response.headers["location"].startswith(f"{BACK}?")
        query = parse_qs(urlsplit(response.headers["location"]).query)
        return {name: values[0] for name, values in query.items()}

    def exchange(self, code: str, verifier: str = VERIFIER) -> httpx2.Response:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": verifier}
        return self.http.post(f"{self.origin}/token", data=form | {"client_id": self.client_id})

    def refresh(self, token: str) -> httpx2.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client_id}
        return self.http.post(f"{self.origin}/token", data=form)

    def sign_in(self, person: str = "ada") -> dict[str, Any]:
        return self.exchange(self.answer(person=person)["code"]).json()

    def status(self, token: str) -> int:
        """What the MCP endpoint says to a token; a request that gets past the door is a bad one."""
        return self.http.post(self.mcp, json={}, headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.fixture
def client() -> Iterator[Client]:
    host = Host()
    served = Served()
    built: list[Any] = []

    async def late(scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Build the application at the server's first event, when its port is known."""
        if not built:
            built.append(sample_sign_in.application(served.origin))
        await built[0](scope, receive, send)

    host.start(served, late)
    with httpx2.Client(trust_env=False, verify=NO_TLS) as http:
        registered = Client(served.origin, http)
        registered.register()
        yield registered
    host.close()


async def _ask(client: Client, token: str, tool: str, era: str = "modern") -> Any:
    version = "2026-07-28" if era == "modern" else "2025-11-25"
    server = mcp_client.Server(
        key=f"warehouse-{client.origin}-{token}",
        url=client.mcp,
        headers=(("Authorization", f"Bearer {token}"),),
        era=era,
        protocol_version=version,
    )
    return (await mcp_client.call_tool(server, tool, {})).structured


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_the_tools_answer_for_the_person_who_signed_in(client: Client, settings: Any, era: str) -> None:
    settings.EGRESS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    ada, grace = client.sign_in("ada"), client.sign_in("grace")
    names = [(await _ask(client, tokens["access_token"], "who_am_i", era))["name"] for tokens in (ada, grace)]
    assert names == ["Ada", "Grace"]
    deliveries = await _ask(client, grace["access_token"], "my_deliveries", era)
    assert [one["number"] for one in deliveries["result"]] == ["D-2"]


def test_without_a_token_the_answer_says_where_to_sign_in(client: Client) -> None:
    refused = client.http.post(client.mcp, json={})
    assert refused.status_code == 401
    pointer = refused.headers["www-authenticate"].partition('resource_metadata="')[2].rstrip('"')
    metadata = client.http.get(pointer).json()
    assert metadata["resource"] == client.mcp
    assert metadata["authorization_servers"] == [client.origin]
    server = client.http.get(f"{client.origin}/.well-known/oauth-authorization-server").json()
    assert server["issuer"] == client.origin
    assert server["code_challenge_methods_supported"] == ["S256"]


def test_the_consent_page_names_the_client_and_says_that_it_is_a_demonstration(client: Client) -> None:
    page = client.consent_page()
    assert "Allow Tea &amp; Sons to use the warehouse" in page.text
    assert "demonstration" in page.text
    assert "Ada" in page.text
    assert "Grace" in page.text
    assert "password" not in page.text.replace("no password", "")


def test_allowing_brings_a_code_and_denying_brings_none(client: Client) -> None:
    allowed = client.answer("allow")
    assert (allowed["state"], allowed["iss"]) == ("xyz", client.origin)
    denied = client.answer("deny")
    assert denied == {"error": "access_denied", "state": "xyz", "iss": client.origin}


def test_a_page_is_good_for_one_decision_by_somebody_it_knows(client: Client) -> None:
    page = client.consent_page()
    assert "location" not in client.decide(page, "allow", person="mallory").headers
    assert client.decide(page, "allow").status_code == 303
    assert client.decide(page, "allow").status_code == 410


def test_a_code_needs_its_verifier_and_used_twice_ends_the_sign_in(client: Client) -> None:
    assert client.exchange(client.answer()["code"], verifier=VERIFIER[::-1]).json()["error"] == "invalid_grant"
    code = client.answer()["code"]
    tokens = client.exchange(code).json()
    assert tokens["expires_in"] == 300
    assert client.status(tokens["access_token"]) == 400
    assert client.exchange(code).json()["error"] == "invalid_grant"
    assert client.status(tokens["access_token"]) == 401


def test_a_refresh_token_is_replaced_and_its_reuse_ends_the_sign_in(client: Client) -> None:
    first = client.sign_in()
    second = client.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert client.status(second["access_token"]) == 400
    assert client.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert client.refresh(second["refresh_token"]).json()["error"] == "invalid_grant"
    assert client.status(second["access_token"]) == 401


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_revoking_one_token_ends_all_of_that_sign_in_only(client: Client, kind: str) -> None:
    ada, grace = client.sign_in("ada"), client.sign_in("grace")
    form = {"token": ada[kind], "client_id": client.client_id, "client_secret": ""}
    assert client.http.post(f"{client.origin}/revoke", data=form).status_code == 200
    assert client.status(ada["access_token"]) == 401
    assert client.refresh(ada["refresh_token"]).json()["error"] == "invalid_grant"
    assert client.status(grace["access_token"]) == 400

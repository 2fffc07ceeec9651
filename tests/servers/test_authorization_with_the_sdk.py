"""The MCP SDK's own client signs in at our test authorization servers: what it finds right, ours may rely on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from joserfc.jwk import ECKey
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from tests.loopback import NO_TLS
from tests.servers.authorization.behaviour import SIGNED
from tests.servers.authorization.by_hand import BACK
from tests.servers.authorization.protection import protect
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartAuthorizationServer, StartServer
from tests.servers.running import McpServer


@dataclass
class Person:
    """Keeps what the SDK wants kept, and approves in the browser."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None
    callbacks: list[str] = field(default_factory=list)

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info

    async def browse(self, url: str) -> None:
        self.callbacks.append(approve(url))

    async def come_back(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**dict(parse_qsl(urlsplit(self.callbacks[-1]).query)))


def signing_in(server: McpServer, person: Person, **more: Any) -> OAuthClientProvider:
    metadata = OAuthClientMetadata(redirect_uris=[BACK], client_name="SDK")
    return OAuthClientProvider(server.url, metadata, person, person.browse, person.come_back, **more)


async def added(server: McpServer, auth: httpx2.Auth) -> Any:
    """Call a tool behind the sign-in."""
    async with (
        httpx2.AsyncClient(auth=auth, trust_env=False, verify=NO_TLS) as http,
        streamable_http_client(server.url, http_client=http) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()
        return (await session.call_tool("add", {"a": 1, "b": 2})).structured_content


@pytest.mark.parametrize("issuer_path", ["", "/tenants/acme"])
@pytest.mark.parametrize(("place", "kind"), [("header", "oauth"), ("path", "oidc_inserted"), ("root", "oidc_appended")])
async def test_it_registers_signs_in_and_calls(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer, issuer_path: str, place: str, kind: str
) -> None:
    auth, server, person = authorization_server(issuer_path=issuer_path, metadata=kind), mcp_server("dual"), Person()
    protect(server, auth, scopes=["read"], metadata=place)
    assert await added(server, signing_in(server, person)) == {"total": 3}
    assert [one["resource"] for one in auth.authorizations] == [server.url]
    assert auth.access_tokens == [person.tokens.access_token]


async def test_it_refreshes_once_and_the_token_rotates(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer
) -> None:
    auth, server, person = authorization_server(), mcp_server("dual"), Person()
    protect(server, auth)
    provider = signing_in(server, person)
    await added(server, provider)
    auth.expire_access_tokens()
    provider.context.token_expiry_time = 1
    assert await added(server, provider) == {"total": 3}
    assert auth.count("/token", grant_type="refresh_token") == 1
    assert auth.reused == []
    assert auth.refresh_tokens == [person.tokens.refresh_token]


async def test_it_steps_up_when_a_tool_needs_more(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer
) -> None:
    auth, server = authorization_server(), mcp_server("dual")
    auth.add_client("known", redirect_uri=BACK)
    person = Person(client=OAuthClientInformationFull(client_id="known", redirect_uris=[BACK], issuer=auth.issuer))
    protect(server, auth, scopes=["read"], insufficient={"add": "calculate"})
    assert await added(server, signing_in(server, person)) == {"total": 3}
    assert [set(one["scope"].split()) for one in auth.authorizations] == [{"read"}, {"read", "calculate"}]


async def test_it_introduces_itself_by_its_document(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer
) -> None:
    auth, server, person = authorization_server(cimd=True), mcp_server("dual"), Person()
    protect(server, auth)
    url = "https://duvo.example/client.json"
    auth.know_document(url, {"client_id": url, "client_name": "SDK", "redirect_uris": [BACK]})
    assert await added(server, signing_in(server, person, client_metadata_url=url)) == {"total": 3}
    assert (auth.count("/register"), auth.authorizations[0]["client_id"]) == (0, url)


@pytest.mark.parametrize(
    "options", [{"iss": "wrong"}, {"iss": "absent_but_advertised"}, {"metadata_issuer": "wrong"}], ids=json.dumps
)
async def test_it_refuses_an_answer_of_another_issuer(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer, options: dict[str, str]
) -> None:
    auth, server = authorization_server(**options), mcp_server("dual")
    protect(server, auth)
    with pytest.raises(BaseExceptionGroup) as refusal:
        await added(server, signing_in(server, Person()))
    assert refusal.group_contains(OAuthFlowError)
    assert auth.token_requests == []


async def test_it_refuses_a_mix_up(authorization_server: StartAuthorizationServer, mcp_server: StartServer) -> None:
    honest, server = authorization_server(), mcp_server("dual")
    attacker = authorization_server(mixes_up_with=honest)
    honest.add_client("known", redirect_uri=BACK)
    protect(server, attacker)
    with pytest.raises(BaseExceptionGroup) as refusal:
        await added(server, signing_in(server, Person()))
    assert refusal.group_contains(OAuthFlowError)
    assert honest.token_requests == attacker.token_requests == []


async def test_it_gets_tokens_without_a_person(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer
) -> None:
    auth, server = authorization_server(client_credentials=True, dcr=False), mcp_server("dual")
    auth.auth_methods = ["client_secret_basic", "client_secret_post", SIGNED]
    key = ECKey.generate_key("P-256")
    auth.add_client("robot", secret="s3cret")
    auth.add_client("signer", jwks={"keys": [key.as_dict(private=False)]})
    protect(server, auth)
    parameters = SignedJWTParameters(
        issuer="signer", subject="signer", signing_key=key.as_pem(private=True).decode(), signing_algorithm="ES256"
    )
    more = {"issuer": auth.issuer}
    for provider in (
        ClientCredentialsOAuthProvider(server.url, Person(), "robot", "s3cret", "client_secret_basic", **more),
        ClientCredentialsOAuthProvider(server.url, Person(), "robot", "s3cret", "client_secret_post", **more),
        PrivateKeyJWTOAuthProvider(server.url, Person(), "signer", parameters.create_assertion_provider(), **more),
    ):
        assert await added(server, provider) == {"total": 3}
    assert auth.count("/token", grant_type="client_credentials") == 3
    assert [claims["sub"] for claims in auth.assertions] == ["signer"]

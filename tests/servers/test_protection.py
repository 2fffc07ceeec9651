"""MCP servers that ask for the tokens of our test authorization servers."""

from __future__ import annotations

import httpx2
import pytest

from tests.servers.authorization.metadata import OAUTH
from tests.servers.authorization.protection import protect
from tests.servers.fixtures import StartAuthorizationServer, StartServer

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {}}}


@pytest.mark.parametrize(("metadata", "place"), [("header", ""), ("path", "/mcp"), ("root", ""), ("none", None)])
def test_a_protected_server_says_where_its_tokens_come_from(
    authorization_server: StartAuthorizationServer,
    mcp_server: StartServer,
    http: httpx2.Client,
    metadata: str,
    place: str | None,
) -> None:
    auth, server = authorization_server(), mcp_server("dual")
    protect(server, auth, scopes=["read"], metadata=metadata)
    refusal = http.post(server.url, json=CALL)
    assert refusal.status_code == 401
    challenge = refusal.headers["www-authenticate"]
    assert 'scope="read"' in challenge
    assert ("resource_metadata=" in challenge) is (metadata == "header")
    hint = challenge.partition('resource_metadata="')[2].partition('"')[0]
    found = http.get(hint or f"{server.origin}/.well-known/oauth-protected-resource{place}")
    if metadata == "none":
        assert found.status_code == 404
    else:
        assert found.json()["authorization_servers"] == [auth.issuer]
        assert found.json()["resource"] == server.url


def test_only_valid_tokens_for_this_server_and_this_tool_get_in(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer, http: httpx2.Client
) -> None:
    auth, server = authorization_server(), mcp_server("dual")
    protect(server, auth, on="calls", insufficient={"add": "calculate"})

    def call(scopes: list[str], resource: str | None = None) -> httpx2.Response:
        token = auth.issue("anybody", scopes, resource=resource).access_token
        return http.post(server.url, json=CALL, headers={"Authorization": f"Bearer {token}"})

    assert http.post(server.url, json=CALL | {"method": "tools/list"}).status_code != 401
    assert http.post(server.url, json=CALL).status_code == 401
    lacking = call(["read"])
    assert lacking.status_code == 403
    assert 'error="insufficient_scope"' in lacking.headers["www-authenticate"]
    assert 'scope="calculate"' in lacking.headers["www-authenticate"]
    assert call(["read", "calculate"]).status_code not in {401, 403}
    assert call(["calculate"], server.url).status_code not in {401, 403}
    stranger = call(["calculate"], "https://other.example/mcp")
    assert (stranger.status_code, "invalid_token" in stranger.headers["www-authenticate"]) == (401, True)


def test_an_old_server_is_its_own_authorization_server(
    authorization_server: StartAuthorizationServer, mcp_server: StartServer, http: httpx2.Client
) -> None:
    auth, server = authorization_server(iss="absent"), mcp_server("legacy")
    protect(server, auth, metadata="origin")
    found = http.get(f"{server.origin}{OAUTH}").json()
    assert (found["issuer"], found["token_endpoint"]) == (server.origin, f"{auth.url}/token")

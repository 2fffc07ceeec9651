"""No URL of a hostile document is ever asked: not as a hint, not as a server, not as an endpoint, not by a redirect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

import pytest

from connections import egress
from oauth import discovering, token_endpoint
from oauth.errors import CannotSignIn, ProviderUnavailable
from oauth.protocol.discovery import MetadataDiscovery
from oauth.protocol.metadata import MetadataError, ResourceMetadata, ServerMetadata, covers, read
from oauth.protocol.steps import MetadataRequest, MetadataResponse
from oauth.token_endpoint import Client
from tests.connections.listeners import Listener, listening
from tests.connections.ssrf import LOOPBACK_HOSTS, REFUSED
from tests.servers.fixtures import StartAuthorizationServer, StartReceiver, StartServer
from tests.servers.kinds import respond
from tests.servers.running import Incoming, McpServer, Receive, Rule, Send

MCP = "https://mcp.example.com/mcp"
SERVER = "https://login.example.com"
# Blank is a member left out.
HOSTILE = [
    *[url for url, _code in REFUSED if url][::2],
    "javascript:alert(document.cookie)",
    "data:application/json,{}",
    "file:///etc/passwd",
    "http://mcp.example.com/",
    "https://mcp.example.com@169.254.169.254/",
]
ENDPOINTS = ["token_endpoint", "authorization_endpoint", "registration_endpoint", "revocation_endpoint"]
CLIENT = Client("client-1", "client_secret_post", secret="marker-of-a-secret")
CODE = {"grant_type": "authorization_code", "code": "marker-of-a-code"}


@pytest.fixture(autouse=True)
async def inner(settings: Any) -> AsyncIterator[Listener]:
    """A service of our own network that would answer; even its port is allowed, and nobody ever comes."""
    settings.EGRESS_ALLOWED_NETWORKS = []
    async with listening() as listener:
        settings.EGRESS_ALLOWED_PORTS = [443, 8443, listener.port]
        yield listener
        await asyncio.sleep(0)
        assert listener.accepted == 0


@pytest.fixture(params=[*HOSTILE, *(f"https://{host}:PORT/token" for host in LOOPBACK_HOSTS)], ids=ascii)
def hostile(request: pytest.FixtureRequest, inner: Listener) -> str:
    return str(request.param).replace("PORT", str(inner.port))


def document(**members: Any) -> bytes:
    return json.dumps(members).encode()


def endpoints(**members: str) -> dict[str, str]:
    return {"issuer": SERVER, **{name: f"{SERVER}/{name}" for name in ENDPOINTS}} | members


def posts(server: ServerMetadata) -> list[Awaitable[Any]]:
    return [
        token_endpoint.grant(server, CLIENT, CODE),
        token_endpoint.register(server, {"redirect_uris": [MCP]}),
        token_endpoint.revoke(server, CLIENT, "marker-of-a-token", "refresh_token"),
    ]


async def test_a_hint_to_a_hostile_url_is_a_step_with_a_sentence_and_nothing_more(hostile: str) -> None:
    look, asked = MetadataDiscovery(MCP), []

    async def answer(ask: MetadataRequest) -> MetadataResponse:
        if ask.method == "POST":
            quoted = hostile.replace("\\", "\\\\").replace('"', '\\"')
            return MetadataResponse(401, b"", f'Bearer resource_metadata="{quoted}"')
        if not ask.url.startswith("https://mcp.example.com/.well-known/"):
            asked.append(ask.url)
            return await discovering._fetch(ask, {}, 5.0)
        return MetadataResponse(404)

    await finish(look, answer)
    [target] = asked
    assert target == hostile or target == urljoin(MCP, hostile)  # a reference is one of the server itself
    if target == MCP:
        return
    step = next(step for step in look.steps if step.url == target[:500])
    assert (step.answer, step.good, step.conclusion[-1]) == ("No answer", False, ".")


async def test_a_document_that_names_a_hostile_sign_in_server_is_not_used(hostile: str) -> None:
    look = MetadataDiscovery(MCP)

    async def answer(ask: MetadataRequest) -> MetadataResponse:
        assert ask.url.startswith("https://mcp.example.com/")
        if ask.method == "POST":
            return MetadataResponse(401, b"", "Bearer")
        body = document(resource=MCP, authorization_servers=[hostile])
        return MetadataResponse(200, body) if "protected-resource" in ask.url else MetadataResponse(404)

    await finish(look, answer)
    steps = [step for step in look.steps if step.what == "Protected resource metadata"]
    assert [(step.answer, step.good, step.conclusion[-1]) for step in steps] == [("HTTP 200", False, ".")] * 2
    assert hostile not in " ".join(step.conclusion for step in steps)


async def finish(look: MetadataDiscovery, answer: Callable[[MetadataRequest], Awaitable[MetadataResponse]]) -> None:
    """Walk to the end; that nothing certain is found there is not the question here."""
    walk = look.walk()
    try:
        ask = next(walk)
        while True:
            ask = walk.send(await answer(ask))
    except (StopIteration, CannotSignIn):
        return


def test_a_document_with_a_hostile_member_cannot_be_read(hostile: str) -> None:
    for name in ["issuer", *ENDPOINTS]:
        with pytest.raises(MetadataError) as fault:
            read(document(**endpoints(**{name: hostile})), ServerMetadata)
        assert fault.value.sentence.endswith(".")
        assert hostile not in fault.value.sentence
    with suppress(MetadataError):
        described = read(document(resource=hostile), ResourceMetadata).resource  # is never asked, only compared
        assert not covers(described, "https://orders.example.com/mcp")


async def test_no_secret_is_sent_to_a_hostile_endpoint_even_if_it_was_once_kept(hostile: str) -> None:
    kept = ServerMetadata.model_construct(**endpoints(**dict.fromkeys(ENDPOINTS, hostile)))
    for post in posts(kept):
        with pytest.raises(ProviderUnavailable) as error:
            await post
        assert error.value.sentence.startswith("The sign-in server could not be used: ")
        assert "marker" not in error.value.sentence


async def test_looking_at_a_server_of_our_own_network_ends_in_a_sentence(inner: Listener) -> None:
    for host in LOOPBACK_HOSTS:
        url = f"https://{host}:{inner.port}/mcp"
        conclusion = await asyncio.to_thread(discovering.discover, discovering.Settings(url))
        assert conclusion.refusal is not None, url
        assert conclusion.sentence.endswith(".")
        assert {step.answer for step in conclusion.steps} == {"No answer"}


# --- redirects: even within networks that are open --------------------------------------------------------------------


def sending_to(target: str, path: str = "") -> Rule:
    """A rule that redirects every request for this path, its method and body kept."""

    async def redirect(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path.startswith(path) and await respond(send, 307, location=target)

    return redirect


async def asking_for_a_sign_in(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    if request.method != "POST":
        return False
    return await respond(send, 401, www_authenticate='Bearer realm="mcp"')


@pytest.mark.parametrize("path", ["/", "/.well-known/"])
def test_a_document_that_is_elsewhere_is_not_fetched_there(
    mcp_server: StartServer, webhook_receiver: StartReceiver, path: str
) -> None:
    server, elsewhere = mcp_server(), webhook_receiver()
    server.behave(sending_to(elsewhere.url, path), asking_for_a_sign_in)
    conclusion = discovering.discover(discovering.Settings(server.url))
    told = f"It leads to another server, {elsewhere.origin}, where it is not fetched."
    assert [step.conclusion for step in conclusion.steps[1:]] == [told] * 3
    assert elsewhere.requests == []


def test_metadata_of_a_sign_in_server_that_is_elsewhere_is_not_fetched_there(
    mcp_server: StartServer, authorization_server: StartAuthorizationServer, webhook_receiver: StartReceiver
) -> None:
    server, auth, elsewhere = mcp_server(), authorization_server(), webhook_receiver()
    auth.behave(sending_to(elsewhere.url))
    members = document(resource=server.url, authorization_servers=[auth.issuer])

    async def describe(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path.startswith("/.well-known/oauth-protected-resource") and await respond(send, 200, members)

    server.behave(describe, asking_for_a_sign_in)
    conclusion = discovering.discover(discovering.Settings(server.url))
    assert conclusion.refusal is not None
    assert conclusion.refusal.code == "no_authorization_server"
    assert len(auth.requests) == 2
    assert elsewhere.requests == []


def test_codes_tokens_and_secrets_do_not_follow_a_redirect(
    authorization_server: StartAuthorizationServer, webhook_receiver: StartReceiver
) -> None:
    auth, elsewhere = authorization_server(), webhook_receiver()
    auth.behave(sending_to(elsewhere.url))
    paths = ["token", "authorize", "register", "revoke"]
    server = ServerMetadata(
        issuer=auth.issuer, **{name: f"{auth.url}/{path}" for name, path in zip(ENDPOINTS, paths, strict=True)}
    )
    for post in posts(server):
        with pytest.raises(ProviderUnavailable) as error:
            egress.run(post)
        assert error.value.code == "provider_unavailable"
    assert [request.path for request in auth.requests] == ["/token", "/register", "/revoke"]
    assert elsewhere.requests == []

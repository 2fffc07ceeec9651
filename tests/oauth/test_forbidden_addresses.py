"""Servers that name forbidden addresses, or that move, while a person signs in: nobody is sent there, and no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connections import egress
from oauth import discovering, refreshing
from oauth.errors import ProviderUnavailable
from oauth.models import Discovery, PendingAuthorization, Registration, SignIn
from tests.oauth.conftest import Scene, StartScene
from tests.servers.authorization.server import AuthorizationServer, approve
from tests.servers.fixtures import StartAuthorizationServer
from tests.servers.kinds import respond
from tests.servers.running import Incoming, Receive, Rule, Send

# Forbidden even where loopback is open, as it is for the servers of these scenes.
ALWAYS_FORBIDDEN = [
    "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//login.example.com/", "login.example.com",
    "https://user@login.example.com/", "https://169.254.169.254/latest/", "https://10.0.0.1/", "https://[fd00::1]/",
    "http://8.8.8.8/", "https://8.8.8.8:22/", "https://login.example.com/#x",
]  # fmt: skip
ENDPOINTS = ["token_endpoint", "authorization_endpoint", "registration_endpoint", "revocation_endpoint"]


def _document(path: str, members: dict[str, Any]) -> Rule:
    """Answer this path with a document."""

    async def answer(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path == path and await respond(send, 200, json.dumps(members).encode())

    return answer


def _moved(path: str, to: AuthorizationServer, status: int = 307) -> Rule:
    """Redirect this path to the same path of another server."""

    async def answer(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        return request.path == path and await respond(send, status, location=f"{to.url}{path}")

    return answer


def _own_metadata(auth: AuthorizationServer) -> dict[str, Any]:
    names = zip(ENDPOINTS, ("token", "authorize", "register", "revoke"), strict=True)
    endpoints = {name: f"{auth.url}/{path}" for name, path in names}
    return {"issuer": auth.issuer, **endpoints, "code_challenge_methods_supported": ["S256"]}


def _goes_nowhere(scene: Scene) -> None:
    """Pressing Sign in leads back to the connection's page with a sentence, and nothing was begun."""
    with egress.observe() as connections:
        answer = scene.press("sign-in")
    assert answer["Location"].endswith("/change/")
    assert scene.said()[0].endswith(".")
    assert {address for step in connections for address in step.addresses} <= {"127.0.0.1"}
    assert not PendingAuthorization.objects.exists()
    assert not Registration.objects.exists()


def test_a_sign_in_server_with_a_forbidden_endpoint_is_not_used(scene: StartScene) -> None:
    scene = scene()
    for number, url in enumerate(ALWAYS_FORBIDDEN):
        member = ENDPOINTS[number % len(ENDPOINTS)]
        members = {**_own_metadata(scene.auth), member: url}
        scene.auth.behave(_document("/.well-known/oauth-authorization-server", members))
        _goes_nowhere(scene)
        assert any(f"Its “{member}” " in step["conclusion"] for step in Discovery.objects.get().steps), url
    assert {request.path.split("/")[1] for request in scene.auth.requests} == {".well-known"}


def test_a_resource_that_names_a_forbidden_sign_in_server_is_not_used(scene: StartScene) -> None:
    scene = scene(protected={"metadata": "path"})
    path, protection = "/.well-known/oauth-protected-resource/mcp", scene.server.rules[0]
    for url in ALWAYS_FORBIDDEN:
        members = {"resource": scene.server.url, "authorization_servers": [url]}
        scene.server.rules[:] = [_document(path, members), protection]
        looked = discovering.discover(discovering.Settings(scene.server.url))
        assert any("Its “authorization_servers” " in step.conclusion for step in looked.steps), url
    assert scene.auth.requests == []


def test_a_challenge_that_points_to_a_forbidden_address_is_not_followed(scene: StartScene) -> None:
    scene = scene(protected={"metadata": "path"})
    protection = scene.server.rules[0]
    for url in set(ALWAYS_FORBIDDEN) - {"login.example.com"}:  # which is a path of the server itself

        async def challenge(_: Any, request: Incoming, __: Receive, send: Send, url: str = url) -> bool:
            header = f'Bearer resource_metadata="{url}"'
            return request.path == "/mcp" and await respond(send, 401, www_authenticate=header)

        scene.server.rules[:] = [challenge, protection]
        with egress.observe() as connections:
            looked = discovering.discover(discovering.Settings(scene.server.url))
        assert [step.answer for step in looked.steps][1] == "No answer", url
        assert {address for step in connections for address in step.addresses} <= {"127.0.0.1"}
        assert looked.found is not None, "the well-known place is asked instead"


@pytest.mark.parametrize("status", [302, 307])
def test_a_document_that_moved_is_not_fetched_elsewhere(
    scene: StartScene, authorization_server: StartAuthorizationServer, status: int
) -> None:
    scene, other = scene(protected={"metadata": "path"}), authorization_server()
    protection = scene.server.rules[0]
    for path in ("/mcp", "/.well-known/oauth-protected-resource/mcp"):
        scene.server.rules[:] = [_moved(path, other, status), protection]
        discovering.discover(discovering.Settings(scene.server.url, headers={"x-team": "s3cret"}))
    scene.server.rules[:] = [protection]
    scene.auth.behave(_moved("/.well-known/oauth-authorization-server", other, status))
    _goes_nowhere(scene)
    assert other.requests == []


def test_a_secret_is_not_sent_to_where_an_endpoint_moved(
    scene: StartScene, authorization_server: StartAuthorizationServer
) -> None:
    scene, other = scene(), authorization_server()
    for status in (302, 307, 308):
        scene.auth.behave(_moved("/register", other, status))
        assert scene.press("sign-in")["Location"].endswith("/change/")
    scene.auth.behave()
    for status in (302, 307, 308):
        callback = approve(scene.depart())
        scene.auth.behave(_moved("/token", other, status))
        assert scene.come_back(callback).status_code == 400
        scene.auth.behave()
    assert not SignIn.objects.exists()
    scene.sign_in()
    scene.auth.behave(_moved("/revoke", other))
    scene.press("sign-out")
    assert "could not be told" in scene.said()[-1]
    assert other.requests == []


def test_a_refresh_token_is_not_sent_to_where_the_endpoint_moved(
    scene: StartScene, authorization_server: StartAuthorizationServer
) -> None:
    scene, other = scene(), authorization_server()
    scene.sign_in()
    row = scene.sign_in_row
    scene.auth.behave(_moved("/token", other))
    with pytest.raises(ProviderUnavailable):
        egress.run(refreshing.renew(row.pk, row.generation, of=row.connection.tenant_id))
    assert other.requests == []
    assert SignIn.objects.get().ended_at is None

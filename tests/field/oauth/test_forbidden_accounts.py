"""A 403 to a token that was read is about its account: another sign-in of the same person would not help."""

from __future__ import annotations

import pytest

from oauth import credential_state
from tests.oauth.conftest import Scene, StartScene
from tests.servers.kinds import answers
from tests.servers.running import Rule

JSON = {"content_type": "application/json"}
NO_SEAT = answers(403, b'{"message": "This account has no seat."}', **JSON)


def signed_in_scene(scene: Scene) -> Scene:
    scene.sign_in()
    scene.probe()
    assert scene.connection.headline == "connected"
    return scene


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (NO_SEAT, "“This account has no seat.”"),
        (answers(403), "refuses access with this credential (HTTP 403)."),
        (answers(403, b"Ask your admin", content_type="text/plain"), "“Ask your admin”"),
        (
            answers(403, b'{"message":"IP not allowed"}', www_authenticate='Bearer realm="x"', **JSON),
            "“IP not allowed”",
        ),
        (answers(403, www_authenticate='Bearer error="access_denied", error_description="No seat"'), "“No seat”"),
        (answers(403, www_authenticate='Bearer error="insufficient_scope"'), "(HTTP 403)."),
        (
            answers(403, www_authenticate='Bearer error="insufficient_scope", error_description="Ask \\"Ann\\""'),
            '“Ask "Ann"”',
        ),
    ],
    ids=["its message", "bare", "text", "a realm", "another error", "no scope", "words and no scope"],
)
def test_it_is_quoted_and_stays_until_the_server_lets_us_in(scene: StartScene, rule: Rule, words: str) -> None:
    scene = signed_in_scene(scene())
    kept = scene.server.rules[:]
    scene.server.rules[:] = [rule]
    scene.probe()
    assert scene.state == ("refused", "forbidden")
    assert words in scene.connection.credential_sentence
    assert "Press Sign in" not in scene.connection.next_step
    credential_state.settle(scene.connection)  # as after a renewal
    assert scene.state == ("refused", "forbidden")
    assert scene.sign_in_row.refused_at is None
    scene.server.rules[:] = kept
    scene.probe()
    assert (scene.state, scene.connection.headline) == (("ready", ""), "connected")


@pytest.mark.parametrize(
    "members",
    [
        'scope="orders:write"',
        'error_description="Required scope: orders:write"',
        'error_description="Required scopes: orders:write"',
        'error_description="Insufficient. Required scope: orders:write."',
    ],
)
def test_a_missing_permission_is_still_asked_for_by_another_sign_in(scene: StartScene, members: str) -> None:
    scene = signed_in_scene(scene())
    challenge = f'Bearer error="insufficient_scope", {members}'
    scene.server.rules[:] = [answers(403, b"{}", www_authenticate=challenge)]
    scene.probe()
    assert scene.state == ("refused", "insufficient_scope")
    assert "“orders:write”" in scene.connection.credential_sentence


@pytest.mark.parametrize(
    ("status", "challenge", "body"),
    [
        (401, 'Bearer error="invalid_token", error_description="Audience mismatch"', b""),
        (401, "Bearer", b'{"error":"Audience mismatch"}'),
        (403, 'Bearer error="invalid_token", error_description="Audience mismatch"', b""),
    ],
)
def test_what_the_server_says_about_a_refused_token_is_quoted(
    scene: StartScene, status: int, challenge: str, body: bytes
) -> None:
    scene = signed_in_scene(scene())
    scene.server.rules[:] = [answers(status, body, www_authenticate=challenge, **JSON)]
    scene.probe()
    assert scene.state == ("refused", "token_refused")
    assert "“Audience mismatch”" in scene.connection.credential_sentence
    credential_state.settle(scene.connection)
    assert "“Audience mismatch”" in scene.connection.credential_sentence, "until it is let in"


def test_a_stranger_who_is_forbidden_where_a_sign_in_is_offered_signs_in(scene: StartScene) -> None:
    scene = scene(protected={"metadata": "path"})
    scene.server.rules.insert(0, _to_strangers)
    scene.probe()
    assert scene.state == ("needs_sign_in", "sign_in_needed")


async def _to_strangers(server: object, request: object, receive: object, send: object) -> bool:
    if getattr(request, "method", "") != "POST" or "authorization" in getattr(request, "headers", {}):
        return False
    return await NO_SEAT(server, request, receive, send)  # type: ignore[arg-type]

"""One renewal at a time, over all processes: a rotating refresh token that is used twice burns the whole sign-in."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from itertools import cycle

import httpx2
import pytest
from django.utils import timezone

from connections.threads import in_thread
from oauth.models import SignIn
from tests.loopback import NO_TLS
from tests.oauth.conftest import Scene, StartScene
from tests.processes import StartWeb, StartWorker, Web
from tools.models import Call

CALLS = 50
PATIENCE = 60.0  # seconds


@pytest.fixture
def expired(scene: StartScene) -> Scene:
    """A connection whose access token has just expired, at a server that revokes everything on reuse."""
    opened = scene(rotate=True, revoke_on_reuse=True)
    opened.sign_in()
    opened.probe()
    assert opened.connection.headline == "connected"
    opened.auth.expire_access_tokens()
    SignIn.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    return opened


def refreshes(scene: Scene) -> int:
    return scene.auth.count("/token", grant_type="refresh_token")


async def call_all(webs: list[Web], token: str, many: int) -> list[httpx2.Response]:
    """Make many calls at once, in turn at each web process; every second one is left to a worker."""
    bases = cycle(web.base for web in webs)
    async with httpx2.AsyncClient(
        trust_env=False,
        verify=NO_TLS,
        timeout=PATIENCE,
        headers={"Authorization": f"Bearer {token}"},
        limits=httpx2.Limits(),
    ) as http:
        return await asyncio.gather(
            *(
                http.post(
                    f"{next(bases)}/v1/tools/orders__echo/call",
                    json={"arguments": {"text": str(number)}},
                    headers={"Prefer": "respond-async" if number // len(webs) % 2 else "wait=60"},
                )
                for number in range(many)
            )
        )


def ended(many: int) -> dict[str, int]:
    """Wait until so many calls have ended and return how many ended in which state."""
    deadline = time.monotonic() + PATIENCE
    while Call.objects.exclude(finished_at=None).count() < many:
        assert time.monotonic() < deadline, list(Call.objects.values_list("state", "error_code"))
        time.sleep(0.05)
    states = list(Call.objects.values_list("state", flat=True))
    return {state: states.count(state) for state in set(states)}


def test_fifty_calls_over_four_processes_renew_an_expired_token_once(
    expired: Scene, start_web: StartWeb, start_worker: StartWorker
) -> None:
    webs = [start_web(), start_web()]
    start_worker(), start_worker()
    token = expired.house.token()
    answers = asyncio.run(call_all(webs, token, CALLS))
    assert {answer.status_code for answer in answers} == {200, 202}
    assert ended(CALLS) == {"succeeded": CALLS}
    assert refreshes(expired) == 1
    assert expired.auth.reused == []
    assert expired.server.executions("echo") == CALLS
    assert expired.sign_in_row.generation == 2


async def kill_the_refresher(scene: Scene, first: Web, second: Web, token: str) -> list[httpx2.Response]:
    """Have calls wait at both for the renewal that the first has begun, kill it, and return the second's answers."""
    lost = asyncio.ensure_future(asyncio.gather(call_all([first], token, 2), return_exceptions=True))
    await asyncio.to_thread(scene.auth.wait_until_held, 1)
    waiting = asyncio.ensure_future(call_all([second], token, 2))
    await in_thread(written_down, 4)
    first.kill()
    await lost
    if scene.auth.way_in.closed:
        await asyncio.to_thread(scene.auth.wait_until_held, 0)
    await in_thread(lease_ends)
    scene.auth.release_tokens()
    return await waiting


def written_down(many: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while Call.objects.count() < many:
        assert time.monotonic() < deadline, Call.objects.count()
        time.sleep(0.02)


def lease_ends() -> None:
    """As if the time of whoever holds it had passed."""
    SignIn.objects.update(lease_until=timezone.now())


def test_when_the_refresher_is_killed_another_takes_over_and_nothing_is_lost(
    expired: Scene, start_web: StartWeb
) -> None:
    expired.auth.hold_tokens()  # unread: the provider has taken nothing from who leaves now
    answers = asyncio.run(kill_the_refresher(expired, start_web(), start_web(), expired.house.token()))
    assert [answer.status_code for answer in answers] == [200, 202]
    assert expired.auth.reused == []
    row = expired.sign_in_row
    assert (row.generation, row.ended_at) == (2, None)


def test_when_the_provider_had_taken_the_token_of_a_killed_refresher_the_sign_in_ends_honestly(
    expired: Scene, start_web: StartWeb
) -> None:
    expired.auth.hold_tokens(taken=True)
    answers = asyncio.run(kill_the_refresher(expired, start_web(), start_web(), expired.house.token()))
    assert answers[0].json()["code"] == "credential_not_ready"
    assert expired.state == ("refused", "sign_in_revoked")
    assert "Sign in again" in expired.connection.next_step

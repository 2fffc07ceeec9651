"""When the operator lets fewer addresses be asked, sign-ins of before can still be ended; the provider is not told."""

from __future__ import annotations

from typing import Any

import pytest

from connections.models import AuditEvent, Connection
from oauth import refreshing, revoking
from oauth.models import SignIn
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_given_back import outcomes, saves
from tests.servers.authorization.server import approve
from tests.tools.conftest import eventually


def drop_port(scene: Scene) -> None:
    """As if the provider's port had been allowed once."""
    moved = {"token_endpoint": "https://8.8.8.8:2222/token"}
    SignIn.objects.update(server=scene.sign_in_row.server | moved)


@pytest.fixture(params=["network", "port"])
def narrowed(request: pytest.FixtureRequest, scene: StartScene, settings: Any) -> Any:
    """A connection that was signed in to before its provider's address was closed."""
    opened = scene()
    opened.sign_in()
    if request.param == "network":
        settings.EGRESS_ALLOWED_NETWORKS = []
    else:
        drop_port(opened)
    opened.asked = len(opened.auth.requests)
    return opened


@pytest.mark.parametrize("button", ["delete", "sign-out"])
def test_it_can_be_deleted_and_signed_out_of(narrowed: Any, button: str) -> None:
    assert narrowed.press(button, post="yes").status_code == 302
    assert not SignIn.objects.exists()
    assert Connection.objects.exists() == (button == "sign-out")
    if button == "sign-out":
        assert "could not be told" in narrowed.said()[-1]
        assert outcomes() == ["metadata_refused"]
        assert narrowed.state[0] in {"missing", "needs_sign_in"}
    assert len(narrowed.auth.requests) == narrowed.asked


def test_its_settings_can_be_changed(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    drop_port(scene)
    saves(scene, authorization="none")
    eventually(outcomes, "the record")
    assert (outcomes(), SignIn.objects.count()) == (["metadata_refused"], 0)


def test_work_in_the_background_ends_well(narrowed: Any) -> None:
    refreshing.attend(narrowed.sign_in_row.pk)
    failed = AuditEvent.objects.get(action="connection.token_not_renewed")
    assert failed.outcome == "metadata_refused"
    narrowed.probe()
    assert narrowed.state[0] in {"ready", "expiring"}
    Connection.objects.update(authorization="none")
    revoking.prune(Connection.objects.get())
    assert not SignIn.objects.exists()


def test_a_sign_in_under_way_is_told_why_it_cannot_be_completed(scene: StartScene, settings: Any) -> None:
    scene = scene()
    callback = approve(scene.depart())
    settings.EGRESS_ALLOWED_NETWORKS = []
    answer = scene.come_back(callback)
    assert answer.status_code == 400
    assert "may not be asked any more" in answer.content.decode()

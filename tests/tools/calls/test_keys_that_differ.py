"""While SEAL_KEYS are rotated one process knows a key that another does not know yet: nothing is taken for broken."""

from __future__ import annotations

import base64

import httpx2
import pytest
from django.conf import settings
from django.test import override_settings

from connections import rotation
from connections.models import Authorization, Credential
from tests.live import Api
from tests.processes import StartWeb, Web
from tests.tools.conftest import Shop, eventually
from tools.calls import life
from tools.catalog import probing

OLD = settings.SEAL_KEYS[0]
NEW = base64.urlsafe_b64encode(b"new-key-" * 4).decode()
NEW_FIRST = f"{NEW},{OLD}"
ASYNC = {"headers": {"Prefer": "respond-async"}}


def at(shop: Shop, web: Web) -> Api:
    return Api(web.base, shop.api.token)


@pytest.fixture
def locked(shop: Shop) -> Shop:
    """The connection needs a key of its server's, which is stored."""
    row = Credential(connection=shop.connection, kind=Credential.Kind.API_KEY)
    row.set("k3y", by=None)
    shop.set(authorization=Authorization.API_KEY, credential_state="ready")
    return shop


def is_try_again(answer: httpx2.Response) -> bool:
    code = answer.json().get("code")
    return (answer.status_code, code, "retry-after" in answer.headers) == (503, "seal_key_unknown", True)


def rotate() -> None:
    """Somebody else has the new key already, and seals everything anew."""
    with override_settings(SEAL_KEYS=[NEW, OLD]):
        for _ in rotation.rotate():
            pass


def states(shop: Shop) -> tuple[str, ...]:
    shop.connection.refresh_from_db()
    row = shop.connection
    return row.reachability_state, row.credential_state, row.credential_reason, row.tools_state


def test_of_two_web_processes_the_one_that_lacks_a_key_says_try_again(locked: Shop, start_web: StartWeb) -> None:
    """Calls there are refused with 503, those at the other are made; and nothing else happens."""
    shop, before = locked, states(locked)
    older, newer = start_web(), start_web(SEAL_KEYS=NEW_FIRST)
    for web in (older, newer):
        assert at(shop, web).call("orders__echo", {"text": "both"}).status_code == 200
    made = at(shop, newer).call("orders__echo", {"text": "sealed anew"}).json()["id"]
    assert is_try_again(at(shop, older).get(f"/v1/calls/{made}"))
    assert at(shop, newer).get(f"/v1/calls/{made}").json()["state"] == "succeeded"

    rotate()
    assert at(shop, older).call("orders__echo", {"text": "x"}).status_code == 200  # with what it has opened already
    shop.set(call_timeout=70)  # from now on it has to read the connection anew
    eventually(lambda: is_try_again(at(shop, older).call("orders__echo", {"text": "x"})), "a refusal")
    assert at(shop, newer).call("orders__echo", {"text": "x"}).status_code == 200

    assert states(shop) == before


def test_a_worker_that_lacks_the_key_leaves_a_queued_call_to_others(locked: Shop) -> None:
    with override_settings(SEAL_KEYS=[NEW, OLD]):
        made = locked.call("echo", {"text": "later"}, **ASYNC).json()["id"]
    life.resume(made)
    assert locked.row.state == "queued"
    assert locked.row.lease_until is not None
    assert locked.row.lease_until > locked.row.created_at
    assert locked.server.executions("echo") == 0
    with override_settings(SEAL_KEYS=[NEW, OLD]):
        life.resume(made)
    assert locked.row.state == "succeeded"
    assert locked.server.executions("echo") == 1


def test_a_check_by_a_process_that_lacks_the_key_marks_nothing(locked: Shop) -> None:
    before = states(locked)
    rotate()
    report = probing.probe(locked.connection.pk)
    assert report is not None
    assert (report.outcome, report.reason) == ("failed", "seal_key_unknown")
    assert states(locked) == before
    assert locked.connection.probe_failures == 0
    assert locked.connection.next_probe_at is not None
    assert locked.connection.probed_at is not None
    assert (locked.connection.next_probe_at - locked.connection.probed_at).total_seconds() < 30


def test_a_check_says_that_a_key_is_lost_when_nobody_has_it(locked: Shop, no_other_keys: None) -> None:
    rotate()
    report = probing.probe(locked.connection.pk)
    assert report is not None
    assert report.reason == "seal_broken"
    assert states(locked)[1:3] == ("refused", "seal_broken")

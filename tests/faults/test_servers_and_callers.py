"""The server or the caller goes away in the middle of a call."""

from __future__ import annotations

import socket

import orjson
import pytest

from tests.faults.house import HOST
from tests.faults.scene import AT_ONCE, QUEUED, WAITING, Scene

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("where", [QUEUED, AT_ONCE])
def test_a_server_that_breaks_its_stream_leaves_an_unknown_outcome(scene: Scene, where: str) -> None:
    call = scene.call(then="drop", where=where)
    scene.worker()
    assert scene.ends(call, "outcome_unknown").error_code == "outcome_unknown"
    assert scene.executions(call) == 1


@pytest.mark.parametrize("where", [QUEUED, AT_ONCE])
def test_a_server_that_never_answers_times_out(scene: Scene, where: str) -> None:
    call = scene.call("hasty__once", then="forget", where=where)
    scene.worker()
    assert scene.ends(call, "timed_out").error_code == "timed_out"
    assert scene.executions(call) == 1


def test_a_call_whose_caller_hangs_up_goes_on_and_its_outcome_is_kept(scene: Scene) -> None:
    request = scene.request(then="hold", keyed=True)
    body = orjson.dumps({"arguments": {"marker": request.marker, **request.arguments}})
    head = [
        f"POST /v1/tools/{request.tool}/call HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json",
        f"Authorization: Bearer {scene.house.token}", f"Idempotency-Key: {request.marker}",
        f"Content-Length: {len(body)}", "", "",
    ]  # fmt: skip
    with socket.create_connection((HOST, scene.house.web.port)) as caller:
        caller.sendall("\r\n".join(head).encode() + body)
        call = scene.seen(request)
    scene.let_go(call)
    scene.ends(call, "succeeded")
    again = scene.send(request, WAITING).json()  # who lost the answer asks again with the key
    assert (again["id"], again["state"]) == (call.id, "succeeded")
    assert scene.executions(call) == 1

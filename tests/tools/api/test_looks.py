"""Looking at calls is not counted, and yet what rival looks at keeps nobody of acme waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from connections.threads import THREADS
from tests.conftest import House
from tests.live import Api
from tests.tools.conftest import eventually
from tools.api import calls
from tools.callers import Principal
from tools.models import Call

NO_CALL = "/v1/calls/0192d3a0-0000-7000-8000-000000000000"
# Events are read by the event loop itself, for all who look at one moment with one statement: they hold no thread.
DOORS = [("GET", ""), ("POST", "/cancel"), ("POST", "/input")]


class Slow:
    """Rival's looks at calls, each in a thread that is slow with it until all are released."""

    def __init__(self, rival: House) -> None:
        self.rival, self.looks, self.released, self._own = rival, list[str](), threading.Event(), calls.own_call

    def own(self, principal: Principal, call_id: str) -> Call:
        if principal.tenant_id == self.rival.tenant.pk:
            self.looks.append(call_id)
            self.released.wait(30)
        return self._own(principal, call_id)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, rival: House) -> Iterator[Slow]:
    looks = Slow(rival)
    monkeypatch.setattr(calls, "own_call", looks.own)
    yield looks
    looks.released.set()


@pytest.mark.parametrize(("method", "door"), DOORS)
def test_as_many_slow_looks_of_rival_as_there_are_threads_leave_acme_its_own(
    api: Api, acme: House, rival: House, slow: Slow, method: str, door: str
) -> None:
    ours, theirs = api.as_(acme.token()), api.as_(rival.token())
    with ThreadPoolExecutor(2 * THREADS) as programs:
        asked = [programs.submit(theirs.request, method, NO_CALL + door) for _ in range(2 * THREADS)]
        try:
            eventually(lambda: len(slow.looks) >= THREADS // 2, "rival's looks")
            for number in range(3):
                with ThreadPoolExecutor(1) as program:
                    answer = program.submit(ours.get, NO_CALL).result(10)
                assert answer.status_code == 404, number
            assert len(slow.looks) == THREADS // 2
        finally:
            slow.released.set()
        assert {one.result(30).status_code for one in asked} == {404}

"""Twenty programs that call all the time, and what they were told.

They are what a proxy with two servers is to its clients: who is refused a connection takes the other server. Each call
has an Idempotency-Key, so that one whose connection was cut before an answer can be asked for again without a second
execution.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.loopback import NO_TLS

CALLERS = 20
_WAITS_FOR = 60.0  # seconds; a call that takes longer than this is stuck
_PAUSE = 0.3  # seconds between two calls of one caller
_OVER = {"succeeded", "failed", "cancelled", "timed_out", "outcome_unknown"}


@dataclass
class Phase:
    """What was counted from one moment on."""

    name: str
    began: float = field(default_factory=time.monotonic)
    succeeded: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # honest 503s, by code
    cut: int = 0  # connections that ended without an answer
    unknown: list[str] = field(default_factory=list)  # ids or markers of calls that ended as outcome_unknown
    failed: list[str] = field(default_factory=list)  # everything else


class Callers:
    """Calls without an end, from threads, until they are stopped."""

    def __init__(self, bases: list[str], token: str, headers: dict[str, str] | None = None) -> None:
        self.bases, self._headers = (
            bases,
            {"Authorization": f"Bearer {token}", "Connection": "close", **(headers or {})},
        )
        self.phases = [Phase("start")]
        self.made: dict[str, str] = {}  # markers by what became of them
        self._stopping = threading.Event()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._call_on, args=(n,), name=f"caller {n}", daemon=True) for n in range(CALLERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(_WAITS_FOR + 30)

    def enter(self, name: str) -> None:
        """Count for this phase from now on."""
        self.phases.append(Phase(name))

    @property
    def phase(self) -> Phase:
        return self.phases[-1]

    def _call_on(self, number: int) -> None:
        for turn in itertools.count(number):
            if self._stopping.is_set():
                return
            self._call(f"c{next(self._numbers)}", turn)
            time.sleep(_PAUSE)

    def _call(self, marker: str, turn: int) -> None:
        prefer = "respond-async" if turn % 4 == 0 else "wait=30"
        body = {"arguments": {"marker": marker, "seconds": 0.2}}
        headers = {"Idempotency-Key": marker, "Prefer": prefer}
        answer = self._ask("POST", "/v1/tools/patient__once/call", turn, json=body, headers=headers)
        deadline = time.monotonic() + _WAITS_FOR
        while answer is not None and answer.status_code in {200, 202} and answer.json()["state"] not in _OVER:
            if time.monotonic() > deadline:
                self._note(marker, "failed", f"{marker} is {answer.json()['state']} after {_WAITS_FOR:.0f} s")
                return
            turn += 1
            wait = {"Prefer": "wait=5"}
            again = self._ask("GET", f"/v1/calls/{answer.json()['id']}", turn, headers=wait)
            if again is not None and again.status_code == 503:  # of this look, not of the call
                self._refused(again)
                time.sleep(0.5)
                continue
            answer = again
        self._judge(marker, answer)

    def _judge(self, marker: str, answer: httpx2.Response | None) -> None:
        if answer is None:
            self._note(marker, "failed", f"{marker}: no server answered within {_WAITS_FOR:.0f} s")
            return
        body = answer.json()
        if answer.status_code == 503:
            self._refused(answer)
            self._note(marker, "unknown" if body["code"] == "process_stopped" else "refused", marker)
        elif body.get("state") == "succeeded":
            self._note(marker, "succeeded", marker)
        elif "outcome_unknown" in {body.get("state"), body.get("code")}:
            self._note(marker, "unknown", marker)
        else:
            self._note(marker, "failed", f"{marker}: {answer.status_code} {answer.text[:200]}")

    def _refused(self, answer: httpx2.Response) -> None:
        with self._lock:
            self.phase.refused[answer.json()["code"]] += 1

    def _note(self, marker: str, what: str, said: str) -> None:
        with self._lock:
            self.made[marker] = what
            phase = self.phase
            if what == "succeeded":
                phase.succeeded += 1
            elif what != "refused":
                getattr(phase, what).append(said)

    def _ask(self, method: str, path: str, turn: int, **more: Any) -> httpx2.Response | None:
        """Ask one server after the other until one answers; None after a while, or if one takes that long."""
        deadline = time.monotonic() + _WAITS_FOR
        headers = self._headers | more.pop("headers", {})
        for number in itertools.count(turn):
            if time.monotonic() > deadline:
                return None
            base = self.bases[number % len(self.bases)]
            with suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                try:
                    with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=_WAITS_FOR, base_url=base) as http:
                        return http.request(method, path, headers=headers, **more)
                except httpx2.ReadTimeout:
                    return None
                except (httpx2.ReadError, httpx2.RemoteProtocolError, httpx2.WriteError):
                    with self._lock:
                        self.phase.cut += 1
            time.sleep(0.02)
        return None

"""One fault: the calls that are made in it, what became of them, and what the server was made to do."""

from __future__ import annotations

import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2

from tests.faults.house import SWEEP, House, Process, eventually, kill

FINAL = {"succeeded", "failed", "cancelled", "timed_out", "outcome_unknown"}
SLACK = 8.0  # seconds that a busy machine takes beyond what is promised
QUEUED, AT_ONCE, WAITING = "respond-async", "wait=0", "wait=30"  # by a worker; in the web process, without, with a wait

_numbers = count(1)


@dataclass(frozen=True)
class Request:
    """What a caller sends; the server counts its executions by the marker."""

    marker: str
    tool: str
    arguments: dict[str, Any]
    keyed: bool

    @property
    def repeatable(self) -> bool:
        """Whether it may be executed more than once: the caller gave a key, and the tool is idempotent."""
        return self.keyed and self.tool.endswith("__again")


@dataclass(frozen=True)
class Made:
    """A call that was made; `answer` is what its caller gets who waits for it."""

    id: str
    request: Request
    answer: Future[httpx2.Response] | None = None


@dataclass(frozen=True)
class Row:
    """What the database says of a call."""

    state: str
    error_code: str
    attempts: int
    sent: bool


@dataclass
class Tally:
    """What became of calls: a lost one has no row, or no execution behind its success; a stuck one has no end.

    A scene has failed when anything else was not as it should be.
    """

    scenes: int = 0
    failed: set[str] = field(default_factory=set)
    calls: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.stuck)

    def __str__(self) -> str:
        counts = f"{len(self.lost)} lost, {len(self.doubled)} doubled, {len(self.stuck)} stuck"
        return f"faults: {self.scenes} scenes, of which {len(self.failed)} failed; {self.calls} calls: {counts}"


class Scene:
    """What a test of a fault does and sees."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._made: list[Made] = []
        self._workers: list[Process] = []
        self._deaths: list[float] = []
        self._callers = ThreadPoolExecutor()

    # --- what is done ---

    def request(self, tool: str = "patient__once", *, keyed: bool = False, **arguments: Any) -> Request:
        """Make up a request that nobody has sent yet."""
        return Request(f"m{next(_numbers)}", tool, arguments, keyed)

    def call(self, tool: str = "patient__once", *, where: str = QUEUED, **more: Any) -> Made:
        """Make a call for a caller that does not wait."""
        request = self.request(tool, **more)
        answer = self.send(request, where)
        assert answer.status_code in {200, 202}, answer.text
        return self._note(Made(answer.json()["id"], request))

    def wait_for(self, tool: str = "patient__once", **more: Any) -> Made:
        """Make a call for a caller that waits; returns when it has arrived at the server."""
        request = self.request(tool, **more)
        return self.seen(request, self._callers.submit(self.send, request, WAITING))

    def seen(self, request: Request, answer: Future[httpx2.Response] | None = None) -> Made:
        """Return the newest call once its request has arrived at the server."""
        self.house.server.arrived(request.marker)
        newest = self.house.rows("SELECT id FROM tools_call ORDER BY created_at DESC LIMIT 1")
        return self._note(Made(str(newest[0][0]), request, answer))

    def send(self, request: Request, where: str) -> httpx2.Response:
        """Send a request, for the first time or again, with the key that it has."""
        key = {"idempotency_key": request.marker} if request.keyed else {}
        return self.house.web.call(request.tool, {"marker": request.marker} | request.arguments, prefer=where, **key)

    def worker(self) -> Process:
        """Start a worker of the queue `calls`; it ends with the scene."""
        self._workers.append(self.house.start_worker())
        return self._workers[-1]

    def kill(self, process: Process) -> None:
        """End a process in the middle of whatever it does."""
        self._deaths.append(time.time())
        kill(process)

    def freeze(self, process: Process) -> None:
        """Stop a process for as long as the test likes: to the others it is dead."""
        self._deaths.append(time.time())
        process.send_signal(signal.SIGSTOP)

    def thaw(self, process: Process) -> None:
        """Let it go on, as if nothing had been."""
        process.send_signal(signal.SIGCONT)

    def arrived(self, call: Made, times: int = 1) -> None:
        """Return when the call has arrived at the server so many times."""
        self.house.server.arrived(call.request.marker, times)

    def let_go(self, call: Made) -> None:
        """Have the server answer what it holds of this call."""
        self.house.server.let_go(call.request.marker)

    def held_row(self, call: Made) -> AbstractContextManager[None]:
        """Hold the call's row: whoever wants to move it waits."""
        return self.house.locked("SELECT 1 FROM tools_call WHERE id = %s FOR UPDATE", call.id)

    def held_moves(self) -> AbstractContextManager[None]:
        """Hold every move of a call at the moment when it is to be written down."""
        return self.house.locked("LOCK TABLE tools_callevent IN SHARE MODE")

    # --- what is seen ---

    def row(self, call: Made) -> Row:
        """Look at the call's row."""
        columns = "SELECT state, error_code, attempts, sent_at IS NOT NULL FROM tools_call WHERE id = %s"
        return Row(*self.house.rows(columns, call.id)[0])

    def states(self, call: Made) -> list[str]:
        """Return the states that the call went through."""
        events = "SELECT state FROM tools_callevent WHERE call_id = %s AND sealed_progress = '' ORDER BY seq"
        return [state for (state,) in self.house.rows(events, call.id)]

    def text(self, call: Made) -> str:
        """Return the call's result, as its caller is told."""
        return str(self.house.web.get(f"/v1/calls/{call.id}").json()["content"][0]["text"])

    def executions(self, call: Made) -> int:
        """How often the server was made to do it."""
        return self.house.server.executions().get(call.request.marker, 0)

    def ends(self, call: Made, *states: str) -> Row:
        """Return the row once the call has ended, in one of these states."""
        row: Row = eventually(lambda: (row := self.row(call)).state in FINAL and row, "the call's end")
        assert row.state in states, row
        return row

    def goes_through(self, call: Made, *states: str) -> None:
        """Return once the call has gone through these states."""
        eventually(lambda: self.states(call)[: len(states)] == list(states), f"{states[-1]}")

    def stays_alive(self, call: Made) -> None:
        """Return when the call's process has renewed its lease for longer than a lease."""
        until = "SELECT extract(epoch FROM lease_until) FROM tools_call WHERE id = %s AND state = 'running'"
        enough = self.house.rows(until, call.id)[0][0] + self.house.lease
        eventually(lambda: self.house.rows(until, call.id)[0][0] > enough, "another lease")

    # --- what is counted ---

    def end(self, tally: Tally) -> None:
        """Count what became of the calls, and end the scene's processes."""
        tally.scenes += 1
        tally.calls += len(self._made)
        try:
            for call in self._made:
                self._judge(call, tally)
        finally:
            for worker in self._workers:
                kill(worker)
            for call in self._made:
                self.let_go(call)
            self._callers.shutdown()

    def _judge(self, call: Made, tally: Tally) -> None:
        try:
            row: Row = eventually(lambda: (row := self.row(call)).state in FINAL and row, "an end")
        except IndexError:
            tally.lost.append(f"{call.id} has no row")
            return
        except AssertionError:
            row = self.row(call)
            tally.stuck.append(f"{call.id} is {row.state}")
        if (seconds := self._with_the_dead(call)) > self.house.lease + SWEEP + SLACK:
            tally.stuck.append(f"{call.id} was running for {seconds:.0f} seconds after its process died")
        executions = self.executions(call)
        if row.state == "succeeded" and not executions:
            tally.lost.append(f"{call.id} was never executed")
        if executions > (row.attempts if call.request.repeatable else 1):
            tally.doubled.append(f"{call.id} was executed {executions} times")

    def _with_the_dead(self, call: Made) -> float:
        """Return how many seconds the call went on to say running after a process had died, at most."""
        events = "SELECT state, extract(epoch FROM at) FROM tools_callevent WHERE call_id = %s ORDER BY seq"
        moves = [(state, float(at)) for state, at in self.house.rows(events, call.id)]
        longest = 0.0
        for death in self._deaths:
            before = [state for state, at in moves if at <= death]
            after = [at for _, at in moves if at > death]
            if before[-1:] == ["running"] and after:
                longest = max(longest, after[0] - death)
        return longest

    def _note(self, call: Made) -> Made:
        self._made.append(call)
        return call

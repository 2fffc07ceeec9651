"""What is done to pages at the Browser; each scene leaves nothing behind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import count, cycle, islice

from tests.faults.house import eventually
from tests.sessions.house import ASSIGNMENTS, HURRY, BrowserHouse
from tests.sessions.job import Job, Score

PINGED = 9.0  # seconds after which a server that pings every 3 s for 5 s has given up a page that nobody answers for
SILENCE = 150  # seconds
SLOW = 14  # seconds that a page takes; the tool counts as slow from then on, and runs in the queue
ROUNDS, PAGES = 6, 8  # of deaths, and of pages each time
_names = count(1)

Scene = Callable[[BrowserHouse, Score], None]


def four_pages(house: BrowserHouse, score: Score) -> None:
    """Two assignments and two names of one: 40 calls in turn over two web processes and a worker."""
    _in_turn(_four(house, score), 20)


def a_death_in_the_middle(house: BrowserHouse, score: Score) -> None:
    """The same, with a web process killed in the middle."""
    jobs = _four(house, score)
    _in_turn(jobs, 10)
    house.kill_web(0)
    _in_turn(jobs, 10, [1, None])
    house.replace_web(0)


def readers_that_die(house: BrowserHouse, score: Score, rounds: int = ROUNDS) -> None:
    """Kill the process that reads the streams of all pages, and see how many survive."""
    for _ in range(rounds):
        _without_reader(house, score, lambda: house.kill_web(0))


def readers_that_stop(house: BrowserHouse, score: Score, rounds: int = ROUNDS // 3) -> None:
    """The same with a process that is asked to end, as in a deployment."""
    for _ in range(rounds):
        _without_reader(house, score, lambda: house.stop_web(0))


def a_long_job(house: BrowserHouse, score: Score) -> None:
    """A slow page, an approval, a cancel, a time-out and a long silence: page, cookie and references stay."""
    job = Job(house, score, 0, "long-job")  # of its own session the program may yet have to hear that it has ended
    score.pages += 1
    job.go(0)
    job.look(1)
    job.go(1, seconds=SLOW)
    seen = job.look(0)
    reference = _reference(seen)
    for via in (1, None, 0):
        job.look(via)
    _press(house, job, reference)
    _cancelled(job)
    job.look(1)
    _timed_out(job)
    assert job.look(0) == job.look(None)
    time.sleep(SILENCE)
    seen = job.look(1)
    assert not score.lost, "its page was lost"
    assert _reference(seen) == reference
    _press(house, job, reference)
    job.look(None)


def a_restart(house: BrowserHouse, score: Score) -> None:
    """The server is started anew between two calls: all four pages are lost, and all four programs are told."""
    jobs = _four(house, score)
    _in_turn(jobs, 4)
    house.browser.restart()
    _in_turn(jobs, 8)
    assert (score.lost, score.told) == (4, 4), "every program is told once"


def what_is_left(house: BrowserHouse, score: Score) -> None:
    """Sessions that a program ended, and those that nobody uses: the server was told, and its browser is gone."""
    jobs = _four(house, score)
    _in_turn(jobs, 4)
    eventually(lambda: house.browser.live() == house.live(), "no other session at the server")
    assert house.browser.processes(), "a browser runs"
    jobs[1].end()
    eventually(lambda: house.browser.live() == 3, "the session that its program ended is gone at once", 5)
    eventually(lambda: _idle_sessions_are_gone(house), "idle sessions are gone")
    eventually(lambda: not house.browser.processes(), "the browser of ended sessions is gone")


def _idle_sessions_are_gone(house: BrowserHouse) -> bool:
    house.let_idle()
    return house.browser.live() == house.live() == 0


def _without_reader(house: BrowserHouse, score: Score, end: Callable[[], None]) -> None:
    jobs = [Job(house, score, 0, f"job-{next(_names)}") for _ in range(PAGES)]
    score.pages += PAGES
    for job in jobs:
        job.go(0)
    for job, via in zip(jobs, cycle([1, None]), strict=False):
        job.look(via)
    end()
    gone = time.monotonic()
    house.replace_web(0)
    time.sleep(max(0.0, gone + PINGED - time.monotonic()))
    for job, via in zip(jobs, cycle([1, None]), strict=False):
        job.look(via)
    leave(house)


def leave(house: BrowserHouse) -> None:
    """End every session as its program does; afterwards neither we nor the server know any."""
    for assignment in range(ASSIGNMENTS):
        anyone = Job(house, Score(), assignment)
        for session in anyone.get("/v1/sessions")["results"]:
            Job(house, Score(), assignment, session["name"] or None).end()
    eventually(lambda: house.live() == house.untold() == house.browser.live() == 0, "every session was ended")
    eventually(lambda: not house.browser.processes(), "the browser of ended sessions is gone")


def _four(house: BrowserHouse, score: Score) -> list[Job]:
    score.pages += 4
    return [Job(house, score, 0), Job(house, score, 0, "job-1"), Job(house, score, 0, "job-2"), Job(house, score, 1)]


def _in_turn(jobs: list[Job], steps: int, ways: list[int | None] | None = None) -> None:
    """Go to a new page and look at it later, job by job, each time through another process."""
    way = cycle(ways or [0, 1, None])
    for step, job in enumerate(islice(cycle(jobs), 2 * steps)):
        if step // len(jobs) % 2 == 0:
            job.go(next(way))
        else:
            job.look(next(way))


def _press(house: BrowserHouse, job: Job, reference: str) -> None:
    """Press the button, which an admin has to approve."""
    asked = job.ask("browser_click", 0, prefer="wait=0", element="Press", target=reference)
    assert asked["state"] == "awaiting_approval", asked
    house.approve(asked["id"])
    done = job.ended(asked)
    assert done["state"] == "succeeded", done
    job.title = f"{job.title} pressed"
    job.look(1)


def _cancelled(job: Job) -> None:
    """A program cancels a call that runs."""
    asked = job.ask("browser_wait_for", 0, prefer="wait=0", time=20)
    eventually(lambda: job.get(f"/v1/calls/{asked['id']}")["state"] == "running", "it runs")
    time.sleep(0.5)
    job.cancel(asked["id"])
    assert job.ended(asked)["state"] == "cancelled"


def _timed_out(job: Job) -> None:
    """A tool takes longer than it may."""
    began = time.monotonic()
    state = job.ended(job.ask("browser_wait_for", 0, prefer="wait=0", time=20))["state"]
    assert state == "timed_out", f"it has {state}"
    assert time.monotonic() - began < HURRY + 10, "it took its time"


def _reference(seen: str) -> str:
    found = re.search(r'button "Press".* \[ref=(\w+)\]', seen)
    assert found is not None, seen
    return found[1]


QUICK: dict[str, Scene] = {
    "four pages": four_pages,
    "a death in the middle": a_death_in_the_middle,
    "the server restarts": a_restart,
    "what is left": what_is_left,
}
SLOW_ONES: dict[str, Scene] = {
    "readers that die": readers_that_die,
    "readers that stop": readers_that_stop,
    "a long job": a_long_job,
}

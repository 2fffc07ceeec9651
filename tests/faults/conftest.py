"""A house to break, and the one line that `make faults` ends with."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.faults import house as houses
from tests.faults.house import eventually
from tests.faults.scene import Scene, Tally

LEASE = 3  # seconds

_tally = pytest.StashKey[Tally]()


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[houses.House]:
    with houses.running(tmp_path_factory.mktemp("house"), lease=LEASE) as house:
        yield house


@pytest.fixture
def scene(house: houses.House, request: pytest.FixtureRequest) -> Iterator[Scene]:
    # A scene before may have ended with the database only just back; what is broken here is broken by the scene itself.
    eventually(house.web.reaches_the_database, "the database, for the web process")
    scene = Scene(house)
    yield scene
    scene.end(request.config.stash[_tally])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "scene" in getattr(item, "fixturenames", ()):
        item.config.stash[_tally].failed.add(item.nodeid)
    return report


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_tally] = Tally()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.stash[_tally].clean:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash[_tally]
    if tally.scenes:
        for kind in ("lost", "doubled", "stuck"):
            for what in getattr(tally, kind):
                terminalreporter.write_line(f"{kind}: {what}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    tally = config.stash[_tally]
    if tally.scenes:
        print(tally)  # noqa: T201 - after pytest's own last line

"""One row of the table: acme alone, and then beside an attack, on a product of the row's own."""

from __future__ import annotations

import asyncio
import math
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from duvo import stack
from tests.load.callers import Seen
from tests.load.machine import Others
from tests.neighbours import names
from tests.neighbours.acme import LATEST, Acme, Life
from tests.neighbours.plan import Attack, Keys
from tests.neighbours.product import WEB, Product
from tests.servers import postgres, valkey

MOST_SLOWDOWN = 3.0  # times the median before
MOST_P95 = 1_000.0  # ms
MOST_MEMORY = 600  # MB of the web process
TOO_MUCH_MEMORY = 3_000  # MB; the attack ends early, so that the machine that measures has some left
END_SECONDS = 30.0  # that the attackers may take to end
LOOK_EVERY = 0.25

Child = subprocess.Popen[str]


@dataclass(frozen=True)
class Pace:
    """How many seconds acme is watched, alone and beside the attack."""

    before: float
    beside: float


@dataclass
class Figures:
    """What was measured; memory in MB of the largest process of each program, others in per cent of the machine."""

    before: Life
    beside: Life
    others: tuple[float, float]
    peaks: dict[str, int] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    died: list[str] = field(default_factory=list)

    def cells(self) -> list[str]:
        """Say it, in the columns of the table."""
        shown = []
        for name, seen in self.beside.kinds.items():
            before, beside, p95 = _ms(self.before.kinds[name], 50), _ms(seen, 50), _ms(seen, 95)
            shown.append(f"{before:.0f} > {beside:.0f} ({beside / before:.1f}x), {p95:.0f}")
        workers = max(peak for name, peak in self.peaks.items() if name not in {WEB, "beat"})
        refused = sum(self.beside.failed.values())
        checks = f"{max(self.before.checks):.1f} > {max(self.beside.checks):.1f}"
        memory, others = f"{self.peaks[WEB]}, {workers}", f"{self.others[0]:.0f}, {self.others[1]:.0f}"
        return [*shown, checks, str(refused), memory, others]

    def broken_promises(self) -> list[str]:
        """Return what was promised and not kept."""
        return self._slow() + self._worse()

    @property
    def only_slow(self) -> bool:
        """Whether latencies are too long, which may be the fault of others, and everything else is well."""
        return bool(self._slow()) and not self._worse()

    def _slow(self) -> list[str]:
        faults = []
        for name, seen in self.beside.kinds.items():
            slowdown = _ms(seen, 50) / _ms(self.before.kinds[name], 50)
            if slowdown > MOST_SLOWDOWN:
                faults.append(f"{name} took {slowdown:.1f} times their median")
            if _ms(seen, 95) >= MOST_P95:
                faults.append(f"{name} had a p95 of {_ms(seen, 95) / 1000:.1f} s")
        return faults

    def _worse(self) -> list[str]:
        faults = []
        if max(self.beside.checks) > LATEST:
            faults.append(f"a check came later than {LATEST:.0f} s")
        if self.beside.failed:
            faults.append(f"calls or checks failed: {_counted(self.beside.failed)}")
        if self.peaks[WEB] >= MOST_MEMORY:
            faults.append(f"the web process took {self.peaks[WEB]} MB")
        if errors := sum(number for what, number in self.answers.items() if re.search(r" 500$", what)):
            faults.append(f"the attackers were answered with status 500 {errors} times")
        return faults + [f"{name} died" for name in self.died]

    def told(self) -> str:
        """Say what became of the attack's own requests."""
        return _counted(self.answers) or "nothing was answered"


def measure(attack: Attack, pace: Pace) -> Figures:
    """Start everything for one row, measure, and stop everything; call it from the main thread."""
    with ExitStack() as until_end:
        folder = Path(until_end.enter_context(tempfile.TemporaryDirectory(prefix="duvo-neighbours-")))
        redis_url, database_url = until_end.enter_context(valkey.running()), until_end.enter_context(postgres.running())
        address, prefix = "", list[str]()
        if attack.by_name:
            address = names.an_address()
            prefix = names.asking(address, folder)
            _first_line(until_end.enter_context(_python("tests.neighbours.names", address)))
        rival_port = int(_first_line(until_end.enter_context(_python("tests.neighbours.hostile", attack.name))))
        echo = ["tests.servers.echo", *(["--hang-up"] if attack.by_name else [])]
        acme_url = _first_line(until_end.enter_context(_python(*echo)))
        if attack.by_name:
            acme_url = acme_url.replace("127.0.0.1", f"orders{names.ACME}")
        product = Product(folder, database_url, redis_url, prefix=prefix)
        keys = product.furnish(attack.name, acme_url, rival_port)
        ground = {"port": product.port, "keys": asdict(keys), "server_port": rival_port, "name_server": address}
        until_end.callback(product.stop)
        try:
            product.start()
            return asyncio.run(_measure(attack, pace, product, keys, ground))
        except BaseException:
            print(product.log(), file=sys.stderr)
            raise


async def _measure(attack: Attack, pace: Pace, product: Product, keys: Keys, ground: dict[str, Any]) -> Figures:
    acme = Acme(product.port, keys, product.database_url)
    await acme.warm_up()
    await acme.live(pace.before / 3)  # imports, caches and pools are warm afterwards
    others = Others()
    before = await acme.live(pace.before)
    taken, others = others.share, Others()
    with _python("tests.neighbours.rival", attack.name, stdin=subprocess.PIPE) as attackers:
        _tell(attackers, orjson.dumps(ground).decode())
        _first_line(attackers)
        watching = asyncio.create_task(_watch(product, attackers))
        beside = await acme.live(pace.beside)
        watching.cancel()
        figures = Figures(before, beside, (taken, others.share))
        attackers.send_signal(signal.SIGTERM)
        heard, _ = await asyncio.to_thread(attackers.communicate, timeout=END_SECONDS)
    assert attackers.returncode == 0, f"the attackers ended with {attackers.returncode}"
    product.look()
    figures.peaks, figures.died = product.peaks, product.died()
    figures.answers.update(orjson.loads(heard))
    return figures


async def _watch(product: Product, attackers: Child) -> None:
    """Note the memory that is taken, and end the attack when it is too much."""
    while product.look() < TOO_MUCH_MEMORY:  # noqa: ASYNC110 - another process's memory has no event
        await asyncio.sleep(LOOK_EVERY)
    attackers.send_signal(signal.SIGTERM)


@contextmanager
def _python(*command: str, **more: Any) -> Iterator[Child]:
    """Run a module that dies with this process."""
    child = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=stack.dying_with_this_process(signal.SIGKILL),
        **more,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _first_line(child: Child) -> str:
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    assert line, "a process did not start"
    return line


def _tell(child: Child, line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(f"{line}\n")
    child.stdin.flush()


def _ms(seen: Seen, percent: float) -> float:
    """Return a percentile of the latencies in milliseconds: without end where nothing was ever answered."""
    return seen.percentile(percent) if seen.latencies else math.inf


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{number} x {what}" for what, number in sorted(counter.items()))

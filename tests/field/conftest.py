"""The shop of `tests/tools`, for troubles of the field, and one line at the end that counts them."""

from __future__ import annotations

from typing import Any

from tests.tools.conftest import open_shop, shop

__all__ = ["open_shop", "shop"]

FOLDER = "tests/field/"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many troubles there are: a test is a kind of trouble, and each row of its table one trouble."""
    rows = {
        outcome: {
            report.nodeid
            for report in terminalreporter.stats.get(outcome, [])
            if getattr(report, "nodeid", "").startswith(FOLDER)
        }
        for outcome in ("passed", "failed", "error", "skipped")
    }
    every = set().union(*rows.values())
    if every:
        kinds = {row.partition("[")[0] for row in every}
        wrong = len(rows["failed"] | rows["error"])
        left_out = f", {len(rows['skipped'])} left out" if rows["skipped"] else ""
        terminalreporter.write_line(
            f"Troubles of the field: {len(kinds)} kinds, {len(every)} rows, {wrong} not as expected{left_out}."
        )

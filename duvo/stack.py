"""Placeholder until the process tree lands."""

from __future__ import annotations


def prepare(argv: list[str]) -> None:
    """Nothing yet."""


def die_with_parent() -> None:
    """Nothing yet."""

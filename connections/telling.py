"""Log lines that a program can read: a sentence, and facts beside it."""

from __future__ import annotations

import logging


def tell(logger: logging.Logger, sentence: str, /, level: int = logging.INFO, **facts: object) -> None:
    """Log a sentence with facts: ids, codes and durations, and never what somebody wrote. Empty ones are left out."""
    if logger.isEnabledFor(level):
        given = {name: value for name, value in facts.items() if value not in (None, "")}
        logger.log(level, sentence, extra={"facts": given})

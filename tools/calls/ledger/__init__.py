"""The rows of the call path: opened before the first byte leaves, ended before the caller is answered.

    rows         what is written: openings, a worker's claims and sendings, and outcomes
    writing      who hands a row over waits until it is committed; while one commit is on its way the next rows gather
    postgresql   one statement for all of them, on a connection of the event loop's own
    by_django    row by row on a connection of Django's: for SQLite, for outcomes with contents, and for an organization
                 of which somebody has rows locked

Plain SQL, because the ORM costs four times as much here; `tools.models.Call` describes the same table.
"""

from tools.calls.ledger.rows import Claim, LedgerUnavailable, Opening, Outcome, Outdated, Sending
from tools.calls.ledger.writing import write

__all__ = ["Claim", "LedgerUnavailable", "Opening", "Outcome", "Outdated", "Sending", "write"]

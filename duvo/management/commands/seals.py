"""`manage.py seals`: show which keys of SEAL_KEYS are in use where, and what may be done with each."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connections import seal_report
from connections.seal_report import Key

_PLACES = ("first: it seals", "second", "third")


class Command(BaseCommand):
    """Show each key by its id: what it has sealed, which processes have it, and what may be done with it."""

    help = __doc__ or ""

    def handle(self, *args: Any, **options: Any) -> None:
        """Print it; raises CommandError when something is sealed with a key that is not here."""
        holders = seal_report.at_work(time.time())
        if holders is None:
            self.stdout.write("Redis does not answer, so it is not known which processes have which keys.\n\n")
        keys = seal_report.keys(holders or [])
        for key in keys:
            self._show(key, asked=holders is not None)
        if missing := [key.id for key in keys if key.place is None]:
            message = f"What {', '.join(missing)} sealed cannot be opened here. Its key is not in SEAL_KEYS."
            raise CommandError(message)

    def _show(self, key: Key, *, asked: bool) -> None:
        place = "not in SEAL_KEYS here" if key.place is None else dict(enumerate(_PLACES)).get(key.place, "a later one")
        sealed = ", ".join(f"{count} in {column}" for column, count in sorted(key.sealed.items())) or "nothing"
        self.stdout.write(f"{key.id}  {place}")
        self.stdout.write(f"    has sealed   {sealed}")
        if asked:
            known = ", ".join(sorted({str(holder) for holder in key.known_to})) or "no process at work"
            self.stdout.write(f"    is known to  {known}")
            self.stdout.write(f"    {seal_report.advice(key)}")
        self.stdout.write("")

"""`manage.py rotate_seals`: seal everything anew with the first of SEAL_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connections import rotation


class Command(BaseCommand):
    """Seal everything anew with the first of SEAL_KEYS, while the product runs."""

    help = __doc__ or ""

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the progress; raises CommandError when a secret opens with none of the keys."""
        broken: dict[str, int] = {}
        for progress in rotation.rotate():
            self.stdout.write(f"{progress.column}: {progress.done} of {progress.total}", ending="\n")
            broken[progress.column] = progress.broken
        if any(broken.values()):
            which = ", ".join(f"{count} in {column}" for column, count in broken.items() if count)
            message = f"No key of SEAL_KEYS opens {which}. Add the key that sealed them, or enter these secrets again."
            raise CommandError(message)
        self.stdout.write(self.style.SUCCESS("Everything is sealed with the first key; older keys may be dropped."))

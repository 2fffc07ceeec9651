"""`manage.py make_seal_key`: print a new key for SEAL_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from duvo import new_settings


class Command(BaseCommand):
    """Print a new random key of 256 bits for SEAL_KEYS; runs without any settings."""

    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Print it."""
        self.stdout.write(new_settings.seal_key())

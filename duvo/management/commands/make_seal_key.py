"""`manage.py make_seal_key`: print a new key for SEAL_KEYS."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Print a new random key of 256 bits for SEAL_KEYS."""

    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Print it."""
        self.stdout.write(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())

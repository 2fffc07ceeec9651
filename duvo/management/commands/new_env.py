"""`manage.py new_env https://duvo.example.com > .env`: print a complete `.env` for that address."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from duvo import new_settings, variables


class Command(BaseCommand):
    """Print a complete `.env` for a PUBLIC_URL, with new secrets; runs without any settings."""

    help = "Print a complete .env for the address at which the product is to be reached, with new secrets."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the address."""
        parser.add_argument("public_url", metavar="PUBLIC_URL", help="such as https://duvo.example.com")

    def handle(self, *_args: Any, public_url: str, **_options: Any) -> None:
        """Print it; raises CommandError for an address that the product would not start with."""
        try:
            address = variables.public_address(public_url)
        except variables.Unusable as fault:
            message = f"PUBLIC_URL={public_url} {fault}"
            raise CommandError(message) from None
        self.stdout.write(new_settings.env_file(address), ending="")

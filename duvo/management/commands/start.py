"""`manage.py start --email ada@acme.example --organization Acme`: print the address at which its admin comes in."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from connections.forms.fields import NameField
from connections.people import starting


class Command(BaseCommand):
    """Make an organization and an invitation for its admin; run again, it only makes a new link."""

    help = "Print an address at which this person becomes the admin of this organization; makes what is not there yet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the person's e-mail address, and the organization's name."""
        parser.add_argument("--email", required=True, help="who is to be its admin, such as ada@acme.example")
        parser.add_argument("--organization", required=True, help="its name, or the slug of one that exists")

    def handle(self, *_args: Any, email: str, organization: str, **_options: Any) -> None:
        """Print the address; raises CommandError for what is no e-mail address or no name."""
        try:
            name = NameField(max_length=100).clean(organization)
            started = starting.start(starting.checked_email(email), name, timezone.now())
        except ValidationError as fault:
            raise CommandError(" ".join(fault.messages)) from fault
        except starting.Ambiguous as fault:
            raise CommandError(fault.sentence) from fault
        self.stdout.write(f"{started.sentence}\n\n    {started.address}\n")

"""`manage.py restored`: after a backup was restored, and before the product is started on it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from duvo import restoring


class Command(BaseCommand):
    """Check that database, folder and keys belong together, and end what may have been sent since the backup."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take whether to look only."""
        parser.add_argument("--check", action="store_true", help="look only, and change nothing")

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        """Say what was found and done; raises CommandError when the product must not start like this."""
        if hindrances := list(restoring.hindrances()):
            raise CommandError("\n".join([*hindrances, "Nothing was changed."]))
        files, lost = restoring.lost_files()
        self.stdout.write(f"{files} contents of results lie in files, {lost} of which are not there.")
        if lost:
            self.stdout.write("Who asks for one of these is told content_lost; look for the rest of RESULT_FOLDER.")
        if check:
            together = "Database and keys" if lost else "Database, keys and folder"
            self.stdout.write(self.style.SUCCESS(f"{together} belong together. Nothing was changed."))
            return
        for line in restoring.go_on(timezone.now()):
            self.stdout.write(line)
        self.stdout.write(self.style.SUCCESS("The product may be started."))

"""`manage.py up`: the whole product on this machine, with nothing installed or configured."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from connections import statement_timeouts
from connections.people import starting
from duvo import processes, stack


class Command(BaseCommand):
    """Run Valkey, web, workers and beat as one process tree until Ctrl-C."""

    help = "Run the product on this machine: Valkey, web, workers and beat, on SQLite unless DATABASE_URL is set."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the port and the data folder; `duvo.stack.prepare` has filled in what was left out."""
        parser.add_argument("--port", type=int, default=stack.DEFAULT_PORT, help="port on 127.0.0.1 (default 8000)")
        parser.add_argument("--data", type=Path, default=stack.DEFAULT_DATA, help="folder of everything kept (var/)")

    def handle(self, *_args: Any, port: int, data: Path, **_options: Any) -> None:
        """Bring the database up to date, then serve until somebody stops it."""
        try:
            processes.check_port(port)
            with processes.locked(data):
                with statement_timeouts.suspended():
                    call_command("migrate", verbosity=0)
                asyncio.run(self._serve(port, data))
        except processes.StackError as error:
            raise CommandError(str(error)) from error
        except processes.Stopped:
            self.stdout.write("Stopped.")

    async def _serve(self, port: int, data: Path) -> None:
        self.stdout.write("Starting…")
        first = await sync_to_async(starting.first_address)(timezone.now())
        async with processes.running(port=port, data=data) as tree:
            self.stdout.write(f"\nReady at http://{processes.HOST}:{port}/admin/ — Ctrl-C stops it.")
            if first:
                self.stdout.write(f"\nNobody is here yet. Open this address to begin; it works once:\n\n    {first}\n")
            self.stdout.flush()
            await tree.until_stopped()
        self.stdout.write("Stopped.")

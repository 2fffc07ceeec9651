"""`manage.py demo`: the whole product with demo data and two sample MCP servers, each step printed."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from duvo import demo, processes, sample_server, sample_sign_in, stack


class Command(BaseCommand):
    """Start everything, take every step of the demo over HTTP, and stay up (or end, with `--once`)."""

    help = "Run the product with two organizations and two sample MCP servers, and show tool calls from end to end."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what `up` takes; `duvo.stack.prepare` has filled in what was left out."""
        parser.add_argument("--port", type=int, default=stack.DEFAULT_PORT, help="port on 127.0.0.1 (default 8000)")
        parser.add_argument("--data", type=Path, default=stack.DEMO_DATA, help="folder of everything kept (var/demo/)")
        parser.add_argument("--once", action="store_true", help="end after the last step, keep nothing")
        parser.add_argument("--temporary", action="store_true", help="remove the data folder at the end")

    def handle(self, *_args: Any, port: int, data: Path, once: bool, temporary: bool, **_options: Any) -> None:
        """Run the demo; raises CommandError when a step fails."""
        try:
            processes.check_port(port)
            with processes.locked(data):
                call_command("migrate", verbosity=0)
                asyncio.run(self._show(port, data, once=once))
        except (processes.StackError, demo.DemoFailed) as error:
            raise CommandError(str(error)) from error
        except processes.Stopped:
            self.stdout.write("Stopped.")
            if once:
                sys.exit(1)
        finally:
            if temporary:
                shutil.rmtree(data, ignore_errors=True)

    async def _show(self, port: int, data: Path, *, once: bool) -> None:
        self.say("Starting Valkey, web, workers, beat and two sample MCP servers…")
        key_port, sign_in_port = stack.free_port(), stack.free_port()
        sample = demo.Sample(
            url=f"http://{processes.HOST}:{key_port}{sample_server.PATH}",
            api_key=secrets.token_urlsafe(24),
            sign_in_url=f"http://{processes.HOST}:{sign_in_port}{sample_sign_in.PATH}",
        )
        servers = [
            processes.Program(
                "sample",
                [sys.executable, "-m", "duvo.sample_server", "--port", str(key_port)],
                environment={"SAMPLE_SERVER_KEY": sample.api_key},
            ),
            processes.Program("sign-in", [sys.executable, "-m", "duvo.sample_sign_in", "--port", str(sign_in_port)]),
        ]
        async with processes.running(port=port, data=data, more=servers) as tree:
            await tree.unless_stopped(processes.until_listening(key_port, "The sample MCP server"))
            await tree.unless_stopped(processes.until_listening(sign_in_port, "The sample that people sign in to"))
            story = demo.Story(port, sample, self.say, stays=not once)
            await tree.unless_stopped(asyncio.to_thread(self._tell, story))
            if not once:
                self.say("\nCtrl-C stops it; what is stored stays for the next `make demo`.")
                await tree.until_stopped()
        self.say("Stopped.")

    def _tell(self, story: demo.Story) -> None:
        try:
            story.tell()
        finally:
            connections.close_all()  # this thread's

    def say(self, line: str) -> None:
        """Print one line at once."""
        self.stdout.write(line)
        self.stdout.flush()

#!/usr/bin/env python
"""Run a management command; `up` and `demo` first make the embedded environment."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from duvo import stack


def main() -> None:
    """Set the environment, then hand over to Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "duvo.settings")
    stack.prepare(sys.argv)
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()

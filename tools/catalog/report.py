"""What the page of a connection shows of its checks and tools; plain data, so that a script can show it live."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from connections.ages import ago
from connections.models import Connection
from connections.models.connection import OVERDUE
from tools.definitions.difference import visible
from tools.models import Probe, Tool

TOOLS_SHOWN = 50
STAGES = {
    "address": "Address",
    "dns": "Name",
    "tcp": "Network",
    "tls": "Encryption",
    "protocol": "Protocol",
    "authorization": "Authorization",
    "tools": "Tools",
}
AVAILABILITIES = {
    "usable": "In use",
    "tool_asks": "Asks first",
    "tool_new": "New",
    "tool_changed": "Changed",
    "tool_denied": "Denied",
    "tool_broken": "Broken",
    "tool_gone": "Gone",
}
OUTCOMES = {"passed": "Passed", "failed": "Failed", "skipped": "Skipped"}
SLOW_START = timedelta(seconds=15)  # a running worker starts a check within a second


def report_of(connection: Connection, now: datetime) -> dict[str, Any]:
    """Return the headline, the three states, the next step, the latest check and the tools of a connection."""
    probe = connection.probes.first()
    # Also between the lease and its report, and where the report has ended since the connection's row was read.
    leased = connection.probe_lease_until is not None and connection.probe_lease_until > now
    running = leased or (probe is not None and probe.outcome == Probe.Outcome.RUNNING)
    waiting = connection.enabled and not running and connection.next_probe_at <= now
    return {
        "headline": {"code": connection.headline.value, "label": connection.headline.label},
        "next_step": connection.next_step,
        "states": [
            _state(connection, "credential", "Credential", now),
            _state(connection, "reachability", "Reachability", now),
            _state(connection, "tools", "Tools", now),
        ],
        "live": running or waiting,
        "progress": _progress(connection, now, running=running, waiting=waiting),
        "check": _check(probe, now),
        "tools": _tools(connection),
    }


def _state(connection: Connection, which: str, title: str, now: datetime) -> dict[str, str]:
    since: datetime = getattr(connection, f"{which}_since")
    return {
        "code": getattr(connection, f"{which}_state"),
        "title": title,
        "label": getattr(connection, f"get_{which}_state_display")(),
        "sentence": getattr(connection, f"{which}_sentence"),
        "since": ago(since, now),
    }


def _progress(connection: Connection, now: datetime, *, running: bool, waiting: bool) -> str:
    if not connection.enabled:
        return "This connection is disabled: it is neither checked nor called."
    if running:
        return "A check is running."
    if not waiting:
        return ""
    if now - connection.next_probe_at > OVERDUE:
        return (
            f"The check is overdue: it should have begun {ago(connection.next_probe_at, now)}, but no worker has taken "
            "it up yet. What is shown here may be out of date. It starts by itself as soon as a worker does."
        )
    if now - connection.next_probe_at > SLOW_START:
        return (
            f"A check was asked for {ago(connection.next_probe_at, now)}, but no worker has taken it up yet. "
            "It starts by itself as soon as one does."
        )
    return "A check is about to start."


def _check(probe: Probe | None, now: datetime) -> dict[str, Any] | None:
    if probe is None:
        return None
    return {
        "outcome": probe.outcome,
        "label": probe.get_outcome_display(),
        "started": ago(probe.started_at, now),
        "stages": [
            {
                "title": STAGES.get(stage["stage"], str(stage["stage"]).replace("_", " ").capitalize()),
                "outcome": stage["outcome"],
                "label": OUTCOMES.get(stage["outcome"], stage["outcome"]),
                "sentence": stage["sentence"],
                "milliseconds": stage["milliseconds"],
            }
            for stage in probe.stages
        ],
    }


def _tools(connection: Connection) -> dict[str, Any]:
    offered = connection.tools.filter(gone_at=None)
    total = offered.count()
    return {
        "total": total,
        "in_use": offered.all().usable().count(),
        "to_review": offered.all().to_review().count(),
        "set_aside": offered.all().broken().count(),
        "set_aside_url": f"{reverse('admin:tools_tool_changelist')}?{_only_broken(connection)}",
        "more": max(0, total - TOOLS_SHOWN),
        "shown": [_tool(tool) for tool in offered.defer("approved_definition")[:TOOLS_SHOWN]],
    }


def _only_broken(connection: Connection) -> str:
    return urlencode({"connection__id__exact": str(connection.pk), "availability": "broken"})


def _tool(tool: Tool) -> dict[str, str]:
    availability = tool.availability
    return {
        "name": tool.public_name,
        "description": visible((availability.sentence if tool.broken else tool.description)[:200]),
        "code": availability.code,
        "word": AVAILABILITIES.get(availability.code, availability.code),
        "url": reverse("admin:tools_tool_change", args=[tool.pk]),
    }

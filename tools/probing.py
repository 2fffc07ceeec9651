"""Checking a connection: can we reach it, does it speak streamable HTTP, are we let in, which tools does it offer.

`probe` reads as the preflight report does: address, protocol, authorization, tools. A failed probe deletes nothing.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from connections import egress
from connections.errors import DuvoError, SealBroken
from connections.models import Authorization, Connection, Credential, Era
from connections.states import CredentialState, ReachabilityState, ToolsState
from tools import catalogue, mcp_client
from tools.models import Probe
from tools.upstream import server_for

UNAUTHORIZED_ON_CALL = "unauthorized_on_call"
LEASE = timedelta(minutes=5)
MESSAGE_EXPIRES = 120  # seconds; after an outage of the workers old messages are dropped, not worked off
KEPT_PROBES = 100  # per connection
_FIRST_RETRY = 60  # seconds
_LONGEST_RETRY = 3600  # seconds
_AT_ONCE = 100  # dispatched per tick, so that the end of an outage is no storm


def due(now: datetime, spread: random.Random | None = None) -> list[UUID]:
    """Take the connections whose probe is due off the list and return their ids, at most 100.

    Each is due again after a normal interval even if its message gets lost. Two dispatchers never take the same row.
    """
    with transaction.atomic():
        rows = list(
            Connection.objects.due(now).select_for_update(
                skip_locked=database.features.has_select_for_update_skip_locked
            )[:_AT_ONCE]
        )
        for row in rows:
            row.next_probe_at = now + timedelta(seconds=next_delay(0, spread))
        Connection.objects.bulk_update(rows, ["next_probe_at"])
    return [row.pk for row in rows]


def next_delay(failures: int, spread: random.Random | None = None) -> float:
    """Return the seconds until the next probe: the interval, or an exponential backoff; ±20 % so that probes spread."""
    seconds = settings.PROBE_INTERVAL
    if failures:
        seconds = min(_FIRST_RETRY * 2 ** min(failures - 1, 16), _LONGEST_RETRY)
    return float(seconds * (spread or random.Random()).uniform(0.8, 1.2))  # noqa: S311 - spreads load, no secret


def probe(connection_id: UUID) -> Probe | None:
    """Check one connection and record the report; None when it is gone, disabled or being checked right now."""
    connection = _claim(connection_id)
    if connection is None:
        return None
    report = Probe.objects.create(connection=connection)
    try:
        _check(connection, report)
    except DuvoError as error:
        report.finish(Probe.Outcome.FAILED, error.code)
    except Exception:
        report.finish(Probe.Outcome.FAILED, "internal_error")
        raise
    else:
        report.finish(Probe.Outcome.PASSED)
    finally:
        _release(connection, failed=report.outcome != Probe.Outcome.PASSED)
        _forget_old_reports(connection)
    return report


def _claim(connection_id: UUID) -> Connection | None:
    now = timezone.now()
    free = Q(probe_lease_until__isnull=True) | Q(probe_lease_until__lt=now)
    claimed = Connection.objects.filter(free, pk=connection_id, enabled=True).update(probe_lease_until=now + LEASE)
    if not claimed:
        return None
    Probe.objects.filter(connection=connection_id, outcome=Probe.Outcome.RUNNING).update(
        outcome=Probe.Outcome.FAILED, reason="interrupted", finished_at=now
    )
    return Connection.objects.select_related("tenant").prefetch_related("credentials").get(pk=connection_id)


def _release(connection: Connection, *, failed: bool) -> None:
    now = timezone.now()
    failures = connection.probe_failures + 1 if failed else 0
    row = Connection.objects.filter(pk=connection.pk)
    row.update(probe_lease_until=None, probe_failures=failures, probed_at=now)
    # Settings saved while this probe ran have asked for another one: that wish stays.
    row.filter(revision=connection.revision).update(next_probe_at=now + timedelta(seconds=next_delay(failures)))


def _forget_old_reports(connection: Connection) -> None:
    kept = connection.probes.values_list("pk", flat=True)[:KEPT_PROBES]
    connection.probes.exclude(pk__in=list(kept)).delete()


def _check(connection: Connection, report: Probe) -> None:
    _reach(connection, report)
    if _credential_missing(connection):
        sentence = "The credential that the authorization method needs is not set."
        connection.set_credential_state(CredentialState.MISSING, "credential_missing", sentence)
        report.add_stage("authorization", "failed", sentence, 0)
        raise DuvoError(sentence, code="credential_missing")
    facts = _discover(connection, report)
    _list_tools(connection, report, facts)


def _reach(connection: Connection, report: Probe) -> None:
    with egress.observe() as steps:
        try:
            egress.run(egress.reach(connection.server_url))
        except DuvoError as error:
            if all(step.ok for step in steps):
                report.add_stage("address", "failed", error.sentence, 0)
            connection.set_reachability(ReachabilityState.UNREACHABLE, error.code, error.sentence)
            raise
        finally:
            for step in steps:
                outcome = "passed" if step.ok else "failed"
                report.add_stage(step.stage, outcome, step.sentence, round(step.milliseconds))


def _credential_missing(connection: Connection) -> bool:
    needed = {Authorization.API_KEY: Credential.Kind.API_KEY, Authorization.HEADERS: Credential.Kind.HEADERS}
    kind = needed.get(Authorization(connection.authorization))
    return kind is not None and not any(row.kind == kind for row in connection.credentials.all())


def _discover(connection: Connection, report: Probe) -> mcp_client.ServerFacts:
    try:
        server = server_for(connection)
    except SealBroken as error:
        connection.set_credential_state(CredentialState.REFUSED, error.code, error.sentence)
        report.add_stage("authorization", "failed", error.sentence, 0)
        raise
    if connection.era_choice == Era.AUTO:
        server = replace(server, era="unknown")  # a server may have been upgraded, or rolled back
    clock = _Clock()
    try:
        facts = egress.run(mcp_client.discover(server))
    except mcp_client.Challenged as error:
        report.add_stage("protocol", "passed", "The server answers over HTTP.", clock.milliseconds)
        _not_let_in(connection, report, error)
        raise
    except DuvoError as error:
        report.add_stage("protocol", "failed", error.sentence, clock.milliseconds)
        unsupported = isinstance(error, mcp_client.NotStreamableHttp | mcp_client.UnsupportedVersion)
        state = ReachabilityState.UNSUPPORTED if unsupported else ReachabilityState.UNREACHABLE
        connection.set_reachability(state, error.code, error.sentence)
        raise
    sentence = f"Streamable HTTP, MCP {facts.protocol_version} ({facts.era})."
    report.add_stage("protocol", "passed", sentence, clock.milliseconds)
    catalogue.learn(connection, facts)
    connection.set_reachability(ReachabilityState.REACHABLE, sentence=sentence)
    return facts


def _list_tools(connection: Connection, report: Probe, facts: mcp_client.ServerFacts) -> None:
    clock = _Clock()
    try:
        listing = egress.run(mcp_client.list_tools(server_for(connection)))
    except mcp_client.Challenged as error:
        _not_let_in(connection, report, error)
        raise
    except DuvoError as error:
        report.add_stage("tools", "failed", error.sentence, clock.milliseconds)
        connection.set_tools_state(ToolsState.FAILED, error.code, error.sentence)
        raise
    _let_in(connection, report)
    synced = catalogue.apply(connection, listing)
    report.add_stage("tools", "passed", synced, clock.milliseconds)


def _not_let_in(connection: Connection, report: Probe, error: mcp_client.Challenged) -> None:
    refuse(connection, error)
    connection.set_reachability(ReachabilityState.REACHABLE, sentence="The server answers over HTTP.")
    report.add_stage("authorization", "failed", connection.credential_sentence, 0)


def refuse(connection: Connection, error: mcp_client.Challenged) -> None:
    """Record that the server does not let us in: a 401 or 403 moves the credential state, not the reachability."""
    if connection.authorization == Authorization.NONE:
        sentence = "The server asks for authorization, and this connection has none."
        connection.set_credential_state(CredentialState.MISSING, "authorization_needed", sentence)
    else:
        connection.set_credential_state(CredentialState.REFUSED, error.code, error.sentence)


def note(connection_id: UUID, failure: DuvoError) -> None:
    """Learn from a failed call: a 401 moves the credential state, another era asks for a probe."""
    connection = Connection.objects.filter(pk=connection_id).first()
    if connection is None:
        return
    if isinstance(failure, mcp_client.EraChanged):
        connection.request_probe()
    elif isinstance(failure, mcp_client.Unauthorized):
        state = CredentialState.MISSING if connection.authorization == Authorization.NONE else CredentialState.REFUSED
        connection.set_credential_state(
            state, UNAUTHORIZED_ON_CALL, "The server refused a call: it asks for a sign-in."
        )


def trust_again(connection_id: UUID) -> None:
    """Learn from a call that succeeded after one was answered with 401."""
    connection = Connection.objects.filter(pk=connection_id, credential_reason=UNAUTHORIZED_ON_CALL).first()
    if connection is not None:
        none = connection.authorization == Authorization.NONE
        connection.set_credential_state(CredentialState.NOT_NEEDED if none else CredentialState.READY)


def _let_in(connection: Connection, report: Probe) -> None:
    if connection.credential_reason == UNAUTHORIZED_ON_CALL:
        # Some servers list openly and ask for a sign-in only on a call: a listing proves nothing there.
        sentence = "The server lists its tools, but it refused the last call."
        report.add_stage("authorization", "failed", sentence, 0)
    elif connection.authorization == Authorization.NONE:
        connection.set_credential_state(CredentialState.NOT_NEEDED)
        report.add_stage("authorization", "passed", "The server asks for none.", 0)
    else:
        connection.set_credential_state(CredentialState.READY)
        report.add_stage("authorization", "passed", "The server accepts the credential.", 0)


class _Clock:
    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def milliseconds(self) -> int:
        return round((time.monotonic() - self._start) * 1000)

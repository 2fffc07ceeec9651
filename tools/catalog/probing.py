"""Checking a connection: can we reach it, does it speak streamable HTTP, are we let in, which tools does it offer.

`probe` reads as the preflight report does: address, protocol, authorization, tools. A failed probe deletes nothing. It
takes a minute at most, whatever timeouts the connection has for its calls, and stops when the connection is changed,
disabled or deleted.
"""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.utils import timezone

from connections import deleting, egress, metrics, redirects, shares
from connections.errors import DuvoError, SealBroken, SealKeyUnknown
from connections.models import Connection
from connections.quotas import QuotaReached
from connections.states import CredentialState, ReachabilityState, ToolsState
from oauth.errors import OAuthError
from oauth.models import SignIn
from tools import mcp_client
from tools.catalog import days, listing, reachability
from tools.catalog.access import Access, CheckStopped
from tools.models import Probe

LONGEST = 60.0  # seconds of one check, all in all
LEASE = timedelta(minutes=3)  # longer than Celery lets a process check
KEPT_PROBES = 100  # per connection, and a few more until the oldest are forgotten
_FIRST_RETRY = 60  # seconds
_LONGEST_RETRY = 3600  # seconds
_SOON = 20.0  # seconds
_INTERRUPTED = "interrupted"  # the reason of a check that died, or that nobody wanted any more
_NOT_THE_SERVERS = frozenset({_INTERRUPTED, SealKeyUnknown.code})  # reasons that say nothing about the server
_FORGOTTEN_ONCE_IN = 20  # checks, on average


def due(now: datetime, spread: random.Random | None = None, work: shares.Work | None = None) -> list[UUID]:
    """Claim the connections whose probe is due and return their ids, tenants in turn.

    They are as many as the queue has room for. Those whose tenant has no free slot for `work` stay due. A claimed one
    is due again after a normal interval, even if its Celery message gets lost. Two dispatchers never claim the same
    row.
    """
    rows = Connection.objects.due(now)

    def claim(row: QuerySet[Connection]) -> int:
        return row.update(next_probe_at=now + timedelta(seconds=next_delay(0, spread)))

    most = shares.room() if work is not None else shares.MOST_WAITING
    return shares.admitted(rows, work, tenant="tenant", when="next_probe_at", most=most, claim=claim)


def next_delay(failures: int, spread: random.Random | None = None) -> float:
    """Return the seconds until the next probe: the interval, or an exponential backoff; ±20 % so that probes spread."""
    seconds = settings.PROBE_INTERVAL
    if failures:
        seconds = min(_FIRST_RETRY * 2 ** min(failures - 1, 16), _LONGEST_RETRY)
    return float(seconds * (spread or random.Random()).uniform(0.8, 1.2))  # noqa: S311 - spreads load, no secret


def probe(connection_id: UUID) -> Probe | None:
    """Check one connection and record the report; None when it is gone, disabled or being checked right now.

    The report is stored at its end. While a server keeps it waiting, what is known so far is stored every second.
    """
    connection = _claim(connection_id)
    if connection is None:
        return None
    report, shown = Probe(connection=connection), -1

    def wanted() -> bool:
        nonlocal shown
        if not _is_wanted(connection):
            return False
        if shown != (shown := len(report.stages)):
            with deleting.may_vanish(Connection.objects.filter(pk=connection.pk)):
                report.keep()
        return True

    try:
        with egress.bounded(LONGEST, f"The check took longer than {LONGEST:.0f} seconds.", wanted=wanted):
            _check(connection, report)
    except DuvoError as error:
        report.finish(Probe.Outcome.FAILED, error.code)
    except Exception as error:
        # Deleted, disabled or changed meanwhile: what the check found no longer matters.
        interrupted = isinstance(error, egress.NotWanted) or not _is_wanted(connection)
        report.finish(Probe.Outcome.FAILED, _INTERRUPTED if interrupted else "internal_error")
        if not interrupted:
            raise
    else:
        report.finish(Probe.Outcome.PASSED)
    finally:
        metrics.count("probes", outcome=report.outcome)
        _record(connection, report)
    return report


def _claim(connection_id: UUID) -> Connection | None:
    """Take the lease of a check; if its process dies, another is due when the lease is over."""
    now = timezone.now()
    until = now + LEASE
    free = Q(probe_lease_until__isnull=True) | Q(probe_lease_until__lt=now)
    claimed = (
        Connection.objects.filter(free, pk=connection_id).in_use().update(probe_lease_until=until, next_probe_at=until)
    )
    if not claimed:
        return None
    Probe.objects.filter(connection=connection_id, outcome=Probe.Outcome.RUNNING).update(
        outcome=Probe.Outcome.FAILED, reason=_INTERRUPTED, finished_at=now
    )
    rows = Connection.objects.select_related("tenant").prefetch_related("credentials")
    rows = rows.annotate(signed_in=Exists(SignIn.objects.filter(connection=OuterRef("pk"))))
    connection = rows.filter(pk=connection_id).first()
    if connection is not None:
        connection.next_probe_at = until  # and not what somebody has asked for since: see `_record`
    return connection


def _is_wanted(connection: Connection) -> bool:
    return Connection.objects.in_use().filter(pk=connection.pk, revision=connection.revision).exists()


def _record(connection: Connection, report: Probe) -> None:
    """Store the report, give the lease back, and say when the next check is due: all of it, or nothing."""
    now = timezone.now()
    failures = 0 if report.outcome == Probe.Outcome.PASSED else connection.probe_failures + 1
    if report.reason in _NOT_THE_SERVERS:
        failures = connection.probe_failures
    unknown = report.reason == SealKeyUnknown.code  # perhaps not to the next process that checks it
    soon = _SOON if unknown else next_delay(failures)
    again = Case(
        # Whoever asked for a check or saved settings while this one ran gets another one right away.
        When(~Q(next_probe_at=connection.next_probe_at), then=F("next_probe_at")),
        When(~Q(revision=connection.revision), then=Value(now)),
        default=Value(now + timedelta(seconds=soon)),
    )
    row = Connection.objects.filter(pk=connection.pk)

    def store() -> None:
        if row.update(probe_lease_until=None, probe_failures=failures, probed_at=now, next_probe_at=again):
            report.keep()
            if report.reason not in _NOT_THE_SERVERS:
                days.note(connection, report)

    deleting.carry_out_beside(store)
    if random.random() * _FORGOTTEN_ONCE_IN < 1:  # noqa: S311 - spreads load, no secret
        kept = connection.probes.values_list("pk", flat=True)[:KEPT_PROBES]
        connection.probes.exclude(pk__in=list(kept)).delete()


def _check(connection: Connection, report: Probe) -> None:
    read_at = time.monotonic()
    # A server that was reached before is not connected to twice: what its first request saw of the network will do.
    reached_before = connection.reachability_state == ReachabilityState.REACHABLE
    if not reached_before:
        _reach(connection, report)
    try:
        access = Access(connection, read_at=read_at, signed_in=getattr(connection, "signed_in", True))
    except DuvoError as error:
        if reached_before:
            _reach(connection, report)
        if isinstance(error, SealBroken):
            connection.set_credential_state(CredentialState.REFUSED, error.code, error.sentence)
        report.add_stage("authorization", "failed", error.sentence, 0)
        raise
    try:
        _discover(access, report, reached_before=reached_before)
        _list_tools(access, report)
    finally:
        access.end_session()


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
            _add_steps(report, steps)


def _add_steps(report: Probe, steps: list[egress.Step]) -> None:
    for step in steps:
        report.add_stage(step.stage, "passed" if step.ok else "failed", step.sentence, round(step.milliseconds))


def _discover(access: Access, report: Probe, *, reached_before: bool) -> None:
    connection, clock = access.connection, _Clock()
    try:
        with egress.observe() as steps:
            facts = access.ask(mcp_client.discover)
    except DuvoError as error:
        if reached_before and not isinstance(error, CheckStopped):
            _reach(connection, report)  # perhaps it is the network, and which part of it
        _not_discovered(access, report, error, clock.milliseconds)
        raise
    sentence = f"Streamable HTTP, MCP {facts.protocol_version} ({facts.era})."
    if reached_before:
        _add_steps(report, steps)
        if not steps:
            report.add_stage("tcp", "passed", "Still connected from a request a moment ago.", 0)
    report.add_stage("protocol", "passed", sentence, clock.milliseconds)
    listing.record_facts(connection, facts)
    access.era_is_known()
    if not connection.says("reachability", ReachabilityState.REACHABLE, sentence=sentence):
        connection.set_reachability(ReachabilityState.REACHABLE, sentence=sentence)


def _not_discovered(access: Access, report: Probe, error: DuvoError, milliseconds: int) -> None:
    connection = access.connection
    if isinstance(error, mcp_client.Challenged):
        report.add_stage("protocol", "passed", "The server answers over HTTP.", milliseconds)
        _not_let_in(access, report, error)
        return
    if isinstance(error, OAuthError | CheckStopped | SealKeyUnknown):
        report.add_stage("authorization", "failed", error.sentence, milliseconds)
        return
    state, reason, sentence = reachability.of(error)
    if reason == redirects.REASON:
        reason, named = redirects.told(connection.server_url)
        sentence = named or sentence
    elif sentence == error.sentence:
        sentence = access.told(error)
    report.add_stage("protocol", "failed", sentence, milliseconds)
    connection.set_reachability(state, reason, sentence)


def _list_tools(access: Access, report: Probe) -> None:
    connection, clock = access.connection, _Clock()
    try:
        offered = access.ask(mcp_client.list_tools)
    except mcp_client.Challenged as error:
        _not_let_in(access, report, error)
        raise
    except (OAuthError, CheckStopped, SealKeyUnknown) as error:
        report.add_stage("authorization", "failed", error.sentence, clock.milliseconds)
        raise
    except DuvoError as error:
        sentence = access.told(error)
        report.add_stage("tools", "failed", sentence, clock.milliseconds)
        if reachability.is_busy(error):
            connection.set_reachability(*reachability.of(error))
        else:
            connection.set_tools_state(ToolsState.FAILED, error.code, sentence)
        raise
    passed, sentence = access.let_in()
    report.add_stage("authorization", "passed" if passed else "failed", sentence, 0)
    try:
        synced = listing.apply(connection, offered)
    except QuotaReached as full:
        report.add_stage("tools", "failed", full.sentence, clock.milliseconds)
        connection.set_tools_state(ToolsState.FAILED, full.code, full.sentence)
        raise
    report.add_stage("tools", "passed", synced, clock.milliseconds)


def _not_let_in(access: Access, report: Probe, error: mcp_client.Challenged) -> None:
    sentence = access.refused(error)
    access.connection.set_reachability(ReachabilityState.REACHABLE, sentence="The server answers over HTTP.")
    report.add_stage("authorization", "failed", sentence, 0)


class _Clock:
    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def milliseconds(self) -> int:
        return round((time.monotonic() - self._start) * 1000)

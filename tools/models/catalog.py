"""What a server offers: probes, tools, and every definition a tool ever had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Sum, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from uuid_utils.compat import uuid7

from connections import egress, moments
from connections.models import Connection
from tools.definitions import moving
from tools.definitions.drift import Listed, digest
from tools.definitions.policy import Availability, availability

FIRST_LISTING = "the first listing"  # `approved_by` of the tools that came with it
GONE_FOR = timedelta(days=30)  # after which a tool that is gone, and that nobody decided about or used, is forgotten
MOST_GONE = 500  # such tools of one connection
MOST_VERSIONS = 20  # of one tool
MOST_OF_A_TOOL = 1_000_000  # bytes of its versions
MOST_OF_A_CONNECTION = 10_000_000  # bytes of the versions of all its tools
_DIGESTED = ("digest", "approved_digest", "definition", "approved_definition")
LONGEST_SENTENCE = 500  # characters of one stage of a check; a server's words may be in it


class Probe(models.Model):
    """One check of a connection, with the preflight report that a person can read.

    `stages` is a list of objects: stage, outcome (`passed`, `failed`, `skipped`), sentence, milliseconds.
    """

    class Outcome(models.TextChoices):
        """How the probe ended."""

        RUNNING = "running", "Running"
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="probes", db_index=False)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.RUNNING)
    stages = models.JSONField(default=list)
    reason = models.CharField(max_length=60, blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "check"
        ordering = ["-started_at", "-id"]
        indexes = [
            models.Index(fields=["connection", "-started_at"], name="probe_of_connection"),
            models.Index(fields=["-started_at"], name="probe_newest"),
            models.Index(
                fields=["outcome", "-started_at"],
                name="probe_not_passed",
                condition=Q(outcome__in=["running", "failed"]),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(outcome="running") | Q(finished_at__isnull=False), name="a_finished_probe_has_an_end"
            ),
        ]

    def __str__(self) -> str:
        return f"Check of {self.connection} at {moments.brief(self.started_at)}"

    def add_stage(self, stage: str, outcome: str, sentence: str, milliseconds: int) -> None:
        """Append one stage; the caller keeps it."""
        sentence = sentence[:LONGEST_SENTENCE]
        self.stages.append({"stage": stage, "outcome": outcome, "sentence": sentence, "milliseconds": milliseconds})

    def finish(self, outcome: Outcome, reason: str = "") -> None:
        """Set how and when the probe ended; the caller keeps it."""
        self.outcome, self.reason, self.finished_at = outcome, reason[:60], timezone.now()

    def keep(self) -> None:
        """Store the report as it is now, so that pages show it.

        Its connection may have been deleted meanwhile, and the report with it: then nothing is stored anew.
        """
        if self._state.adding:
            self.save(force_insert=True)
            return
        Probe.objects.filter(pk=self.pk).update(
            outcome=self.outcome, reason=self.reason, stages=self.stages, finished_at=self.finished_at
        )


class Policy(models.TextChoices):
    """What the tenant decided about a tool."""

    ALLOW = "allow", "Allow"
    ASK = "ask", "Ask"
    DENY = "deny", "Deny"


class Placement(models.TextChoices):
    """Where calls of a tool run."""

    AUTO = "auto", "At once, in the queue when calls were slow lately"
    AT_ONCE = "at_once", "Always at once"
    QUEUE = "queue", "Always in the queue"


class ToolQuerySet(models.QuerySet["Tool"]):
    """Sets of tools."""

    def usable(self) -> ToolQuerySet:
        """Return the tools that assignments may use: approved as last seen, not gone, not broken and not denied."""
        return self.filter(
            connection__enabled=True,
            gone_at__isnull=True,
            broken="",
            policy__in=[Policy.ALLOW, Policy.ASK],
            approved_digest=F("digest"),
        )

    def to_review(self) -> ToolQuerySet:
        """Return the tools whose definition last seen waits for an admin."""
        return self.filter(gone_at__isnull=True, broken="").exclude(approved_digest=F("digest"))

    def broken(self) -> ToolQuerySet:
        """Return the tools that the server offers but whose definition last seen cannot be used."""
        return self.filter(gone_at__isnull=True).exclude(broken="")

    def forgettable(self) -> ToolQuerySet:
        """Return the tools that are gone, and that no person has decided about, chosen or used."""
        undecided = Q(approved_digest="") | Q(approved_by=FIRST_LISTING)
        untouched = Q(policy=Policy.ALLOW, placement=Placement.AUTO, idle_timeout=None, call_timeout=None, moving="")
        chosen = Tool.assignments.through.objects.filter(tool=OuterRef("pk"))
        used = Tool.calls.rel.related_model.objects.filter(tool=OuterRef("pk"))  # type: ignore[attr-defined]
        return self.filter(undecided, untouched, ~Exists(chosen), ~Exists(used), gone_at__isnull=False)

    def forget_gone(self, now: datetime) -> None:
        """Delete forgettable tools gone for longer than `GONE_FOR`, and all but the `MOST_GONE` that went last."""
        forgettable = self.forgettable()
        forgettable.filter(gone_at__lt=now - GONE_FOR).delete()
        surplus = list(forgettable.order_by("-gone_at", "-pk").values_list("pk", flat=True)[MOST_GONE:])
        self.filter(pk__in=surplus).delete()


class Tool(models.Model):
    """One tool of one connection, with the definition last seen and the definition approved."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="tools")
    name = models.CharField("name on the server", max_length=200)
    public_name = models.CharField("name for assignments", max_length=64)
    definition = models.JSONField("definition last seen")
    digest = models.CharField(max_length=64)
    approved_definition = models.JSONField(null=True)
    approved_digest = models.CharField(max_length=64, blank=True)
    approved_by = models.CharField(max_length=200, blank=True)
    approved_at = models.DateTimeField(null=True)
    policy = models.CharField(max_length=10, choices=Policy, default=Policy.ALLOW)
    placement = models.CharField("where calls run", max_length=10, choices=Placement, default=Placement.AUTO)
    idle_timeout = models.PositiveSmallIntegerField(null=True, blank=True)  # seconds; empty: the connection's
    call_timeout = models.PositiveSmallIntegerField(null=True, blank=True)
    slow_until = models.DateTimeField(null=True)
    # What an admin lets change without a review, and of which server: of another one it is not let.
    moving = models.CharField(
        "what of the description may change by itself", max_length=250, blank=True, default="", db_default=""
    )
    moving_by = models.CharField(max_length=200, blank=True, default="", db_default="")
    moving_at = models.DateTimeField(null=True)
    moving_for = models.CharField(max_length=300, blank=True, default="", db_default="")
    broken = models.CharField("why it cannot be used", max_length=300, blank=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    gone_at = models.DateTimeField(null=True)

    objects = ToolQuerySet.as_manager()

    class Meta:
        ordering = ["public_name", "id"]
        indexes = [models.Index(fields=["public_name", "id"], name="tool_by_name")]
        constraints = [
            models.UniqueConstraint(fields=["connection", "name"], name="a_tool_name_is_unique_on_its_server"),
            models.UniqueConstraint(
                fields=["connection", "public_name"], name="a_public_tool_name_is_unique_in_its_connection"
            ),
            models.CheckConstraint(condition=Q(policy__in=Policy.values), name="a_tool_has_a_known_policy"),
            models.CheckConstraint(condition=Q(placement__in=Placement.values), name="a_tool_has_a_known_placement"),
            models.CheckConstraint(
                condition=Q(approved_digest="") | Q(approved_definition__isnull=False, approved_at__isnull=False),
                name="an_approved_tool_has_its_approved_definition",
            ),
        ]

    def __str__(self) -> str:
        return self.public_name

    @property
    def availability(self) -> Availability:
        """Whether assignments may use it, and if not, why."""
        return availability(
            digest=self.digest,
            approved_digest=self.approved_digest,
            gone=self.gone_at is not None,
            broken=self.broken,
            denied=self.policy == Policy.DENY,
            asks=self.policy == Policy.ASK,
        )

    @property
    def description(self) -> str:
        """The description last seen, for lists."""
        return str(self.definition.get("description") or "")

    def approve(self, *, by: str, digest: str) -> bool:
        """Approve the definition a person has seen; False when the server has changed it since (`digest` differs).

        A conditional UPDATE: what is approved is exactly what was shown, also when a probe runs at this moment.
        """
        changed = Tool.objects.filter(pk=self.pk, digest=digest, broken="").update(
            approved_definition=F("definition"),
            approved_digest=F("digest"),
            approved_by=by[:200],
            approved_at=timezone.now(),
        )
        return bool(changed)

    def let_change(self, part: str, *, by: str) -> None:
        """Let this part of the description change without a review from now on, "" for none (see `moving`).

        What is approved stays so, and calls of it that wait go on; only the digests leave the part out. The caller
        holds the lock of the connection.
        """
        self.moving, self.moving_by, self.moving_at = part, by[:200], timezone.now()
        self.moving_for = egress.origin(self.connection.server_url)
        self._digest_anew_and_follow()
        self.save(update_fields=["moving", "moving_by", "moving_at", "moving_for", *_DIGESTED])
        Tool.keep_versions([self])

    def hold_still(self) -> None:
        """Let nothing change by itself any more: the connection leads to another server than the admin spoke of."""
        self.moving = ""
        self._digest_anew_and_follow()
        self.save(update_fields=["moving", *_DIGESTED])

    def _digest_anew_and_follow(self) -> None:
        self.digest_anew()
        self.follow(self.definition)

    def digest_anew(self) -> None:
        """Derive the digests from the stored definitions, also those of calls that wait; the caller saves the tool."""
        self.digest, before = digest(self.definition, self.moving), self.approved_digest
        if before:
            self.approved_digest = digest(self.approved_definition or {}, self.moving)
        if before != self.approved_digest:
            self.calls.filter(tool_digest=before, finished_at=None).update(tool_digest=self.approved_digest)

    def follow(self, listed: Mapping[str, Any]) -> bool:
        """Take over a description that changed by itself, if nothing else did; False if there is nothing to save."""
        if not self.moving:
            return False
        before = (self.definition, self.approved_definition)
        self.definition = moving.followed(self.definition, listed)
        if self.approved_digest == self.digest and self.approved_definition is not None:
            self.approved_definition = moving.followed(self.approved_definition, listed)
        return before != (self.definition, self.approved_definition)

    def runs_in_queue(self, now: datetime) -> bool:
        """Tell whether its calls run in a worker: because an admin chose that, or a call was slow lately."""
        if self.placement == Placement.AUTO:
            return self.slow_until is not None and self.slow_until > now
        return self.placement == Placement.QUEUE

    def set_placement(self, placement: Placement, idle_timeout: int | None, call_timeout: int | None) -> None:
        """Set where calls run and their timeouts in seconds; that a call was slow is forgotten."""
        self.placement, self.idle_timeout, self.call_timeout = placement, idle_timeout, call_timeout
        self.slow_until = None
        self.save(update_fields=["placement", "idle_timeout", "call_timeout", "slow_until"])

    def set_policy(self, policy: Policy) -> None:
        """Allow the tool, have each call of it approved, or deny it."""
        self.policy = policy
        self.save(update_fields=["policy"])

    def update_from(self, listed: Listed, now: datetime) -> None:
        """Take over what a listing says; the caller saves, many tools at once."""
        self.definition, self.broken = listed.definition, listed.broken[:300]
        self.digest = digest(listed.definition, self.moving)
        self.last_seen_at, self.gone_at = now, None

    def trust(self, *, by: str, now: datetime) -> None:
        """Approve the definition last seen without a review; the caller saves."""
        self.approved_definition, self.approved_digest = self.definition, self.digest
        self.approved_by, self.approved_at = by[:200], now

    @staticmethod
    def keep_versions(tools: Iterable[Tool]) -> None:
        """Keep the definitions last seen in the history, once per digest."""
        versions = [
            ToolVersion(
                tool=tool, digest=tool.digest, definition=tool.definition, size=len(orjson.dumps(tool.definition))
            )
            for tool in tools
        ]
        ToolVersion.objects.bulk_create(versions, ignore_conflicts=True, batch_size=500)


class ToolVersionQuerySet(models.QuerySet["ToolVersion"]):
    """Sets of versions."""

    def prune(self) -> None:
        """Delete the oldest beyond the limits in number and size, except those approved and those last seen."""
        newest: Any = {"order_by": [F("seen_at").desc(), F("pk").desc()]}
        ranked = self.annotate(
            rank=Window(RowNumber(), partition_by="tool", **newest),
            of_its_tool=Window(Sum("size"), partition_by="tool", **newest),
            of_all=Window(Sum("size"), **newest),
        ).order_by()
        surplus = ranked.filter(
            Q(rank__gt=MOST_VERSIONS) | Q(of_its_tool__gt=MOST_OF_A_TOOL) | Q(of_all__gt=MOST_OF_A_CONNECTION)
        )
        old = list(surplus.values_list("pk", flat=True))
        still_needed = Q(digest=F("tool__digest")) | Q(digest=F("tool__approved_digest"))
        ToolVersion.objects.filter(pk__in=old).exclude(still_needed).delete()


class ToolVersion(models.Model):
    """One definition that a tool had, kept for the difference shown at review."""

    tool = models.ForeignKey(Tool, on_delete=models.CASCADE, related_name="versions")
    digest = models.CharField(max_length=64)
    definition: Any = models.JSONField()
    size = models.PositiveIntegerField(db_default=0)  # bytes of the definition as JSON
    seen_at = models.DateTimeField(default=timezone.now)

    objects = ToolVersionQuerySet.as_manager()

    class Meta:
        ordering = ["-seen_at"]
        constraints = [
            models.UniqueConstraint(fields=["tool", "digest"], name="a_tool_version_is_kept_once"),
        ]

    def __str__(self) -> str:
        return f"{self.tool} {self.digest[:8]}"

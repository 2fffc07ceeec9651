"""What becomes of calls whose rows come out of a backup: whatever was open then may have been made since."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count

from tools.models import Call
from tools.models.call_states import CallState

_SENTENCE = (
    "The database was restored from a backup in which this call was open: the tool may have run since then. Check "
    "before you try again."
)


def end_open(now: datetime) -> dict[str, int]:
    """End every open call, so that none is sent twice; return how many there were, by state.

    Those that their server works on as a task go on: asking for what became of them does nothing again.
    """
    open_ = Call.objects.filter(finished_at=None).exclude(state=CallState.RUNNING, sealed_task__gt="")
    counted = dict(open_.order_by().values_list("state").annotate(Count("pk")))
    open_.filter(state=CallState.AWAITING_APPROVAL).end(CallState.FAILED, "restored", _SENTENCE, now)
    open_.filter(state=CallState.QUEUED).claim(now, now)  # a queued call only ends as unknown by running
    open_.filter(finished_at=None).end(CallState.OUTCOME_UNKNOWN, "restored", _SENTENCE, now)
    return counted

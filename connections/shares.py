"""What one organization may have under way in the queue `probes`: so many pieces of work at a time, over all workers.

A slot is taken before the work's message is sent. So the queue never holds more of an organization than its share,
however much of it is due: the rest stays due in its rows, and whoever comes next waits behind a share of each. When a
slot is released, the dispatchers of the work that was refused one are called at once.

A share must not cause an outage: without Redis everybody gets a slot, and there are no messages, either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from connections import deleting
from connections.context import acting_for

MOST: Final = 2  # pieces of work of one organization
MOST_WAITING: Final = 500  # messages; a row whose message is dropped is due again after an interval
WAITS: Final = 120  # seconds after which a message that no worker has taken is dropped, and its slot released
_WORKS: Final = 200  # seconds; longer than Celery lets any work in this queue take
_PATIENCE: Final = 0.5  # seconds that Redis may take

# `places` of an organization has each work with a slot and its end by Redis's clock; `of` names a work's tenant.
_TAKE = """
local work, tenant, dispatcher, most, lease = unpack(ARGV)
local places, refused = 'duvo:probes:places:' .. tenant, 'duvo:probes:refused:' .. tenant
local now = redis.call('TIME')[1]
redis.call('ZREMRANGEBYSCORE', places, '-inf', now)
if redis.call('ZSCORE', places, work) or redis.call('ZCARD', places) >= tonumber(most) then
  redis.call('SADD', refused, dispatcher)
  redis.call('EXPIRE', refused, 3600)
  return 0
end
redis.call('ZADD', places, now + lease, work)
redis.call('EXPIRE', places, 3600)
redis.call('SET', 'duvo:probes:of:' .. work, tenant, 'EX', 3600)
return 1
"""
_KEEP = """
local work, lease = unpack(ARGV)
local tenant = redis.call('GET', 'duvo:probes:of:' .. work)
if tenant then
  redis.call('ZADD', 'duvo:probes:places:' .. tenant, redis.call('TIME')[1] + lease, work)
end
return tenant
"""
_RELEASE = """
local work = ARGV[1]
local tenant = redis.call('GET', 'duvo:probes:of:' .. work)
if not tenant then
  return {}
end
local refused = 'duvo:probes:refused:' .. tenant
local dispatchers = redis.call('SMEMBERS', refused)
redis.call('DEL', 'duvo:probes:of:' .. work, refused)
redis.call('ZREM', 'duvo:probes:places:' .. tenant, work)
return dispatchers
"""
_WAITING = "return redis.call('LLEN', 'probes')"


def room() -> int:
    """Return how many more messages may wait in the queue `probes` now, so that few are dropped."""
    return max(0, MOST_WAITING - (_ask(_WAITING) or 0))


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of work in the queue `probes`, by the names of its task and of the dispatcher that finds what is due."""

    task: str
    dispatcher: str

    def admits(self, tenant: UUID, row: UUID) -> bool:
        """Take a slot for the work on a row; False if the organization holds its share or that work is under way."""
        return _ask(_TAKE, self._name(row), str(tenant), self.dispatcher, MOST, WAITS) in {1, None}

    @contextmanager
    def held(self, row: UUID | str) -> Iterator[None]:
        """Keep the slot while a worker does the work inside for the organization that has it, then release it."""
        owner = _ask(_KEEP, self._name(row), _WORKS)
        try:
            with acting_for(owner.decode() if owner else None):
                yield
        finally:
            self.release(row)

    def release(self, row: UUID | str) -> None:
        """Release the slot, and call the dispatchers that were refused one."""
        for dispatcher in _ask(_RELEASE, self._name(row)) or ():
            with suppress(OperationalError, OSError):  # beat calls it as well
                current_app.send_task(dispatcher.decode(), expires=5, retry=False)

    def _name(self, row: UUID | str) -> str:
        return f"{self.task}:{row}"


def admitted(
    rows: QuerySet[Any],
    work: Work | None,
    *,
    tenant: str,
    when: str,
    most: int,
    claim: Callable[[QuerySet[Any]], int] | None = None,
) -> list[UUID]:
    """Return those of the due rows whose work may begin, at most so many: the oldest of each tenant, then its second.

    `tenant` and `when` are the columns that say whose a row is and since when it is due. `claim` marks an admitted row
    as taken; one that somebody else has taken, or has locked at this moment, is left out. Without `work` no slot is
    needed.
    """
    turn = Window(RowNumber(), partition_by=F(tenant), order_by=F(when).asc())
    in_turn = rows.order_by().annotate(turn=turn).order_by("turn", when).values_list("pk", tenant)
    refusals: Counter[UUID] = Counter()
    found = []
    for row, owner in in_turn[:most]:
        if refusals[owner] > MOST:  # not because just these are under way: all its slots are taken
            continue
        if work is not None and not work.admits(owner, row):
            refusals[owner] += 1
        elif claim is None or _claimed(rows.filter(pk=row), claim):
            found.append(row)
        elif work is not None:
            work.release(row)
    return found


def _claimed(row: QuerySet[Any], claim: Callable[[QuerySet[Any]], int]) -> bool:
    with transaction.atomic():
        return bool(claim(deleting.unlocked(row)))


def _ask(script: str, *words: Any) -> Any:
    """Return what a Lua script answers, None when Redis cannot be asked."""
    try:
        return _script(script, settings.REDIS_URL)(args=words)
    except (RedisError, OSError):
        return None


@cache
def _script(script: str, url: str) -> Any:
    client = Redis.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE)
    return client.register_script(script)

"""Who calls: the token of `Authorization: Bearer duvo_…` becomes a principal, or None.

What does not have the form of a token is never looked up. In each process a client address may try only so many unknown
tokens, because each costs a query. A token that was valid lately is looked up even when its address has used that up.

Everywhere a principal is at most one second old. Only who opens a call may take one that is older (`presumed`), as the
statement that opens it checks the token.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from cachetools import TTLCache
from django.db import Error as DatabaseFailed
from django.db import connection, transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from connections import deleting
from connections.clients import address_of, share_of
from connections.errors import TooManyTries
from connections.threads import in_thread
from connections.throttle import Bucket, Local
from tools.cache import LoadingCache
from tools.gathering import Gatherer
from tools.models import AccessToken
from tools.models.assignments import digest_of

UNKNOWN_AT_ONCE = 20  # unknown tokens that one address may try in this process; after them one a second
SLOWED_DOWN_FOR = 1.0  # seconds
MOST_SLOWED_DOWN = 500  # at once in this process; others are refused at once
_NOTE_USE_EVERY = timedelta(minutes=1)
_TOKEN = re.compile(r"duvo_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: an assignment (`assignment_id` set) or a member with a role (`role` set), of one tenant."""

    token_id: UUID
    tenant_id: UUID
    assignment_id: UUID | None
    role: str | None
    user_id: int | None
    suspended: bool = False  # its organization is suspended: requests are refused, with a code of their own

    is_authenticated = True  # what DRF asks of a user


def _load(digests: Collection[str]) -> dict[str, Principal]:
    now = timezone.now()
    rows = AccessToken.objects.live(now).filter(digest__in=digests).values_list(
        "digest", "pk", "last_used_at", "assignment", "assignment__tenant", "assignment__tenant__suspended_at",
        "membership__role", "membership__user", "membership__tenant", "membership__tenant__suspended_at",
    )  # fmt: skip
    found, unnoted = dict[str, Principal](), list[UUID]()
    for digest, token, used_at, assignment, its_tenant, its_end, role, user, tenant, end in rows:
        found[digest] = Principal(
            token, its_tenant or tenant, assignment, role, user, suspended=(its_end or end) is not None
        )
        if used_at is None or used_at < now - _NOTE_USE_EVERY:
            unnoted.append(token)
    if unnoted:
        _note_uses(unnoted)
    return found


def _note_uses(token_ids: Collection[UUID]) -> None:
    now = timezone.now()
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - _NOTE_USE_EVERY)
    tokens = AccessToken.objects.filter(stale, pk__in=token_ids)
    if not connection.features.has_select_for_update_skip_locked:  # SQLite: its one writer writes in one statement
        tokens.update(last_used_at=now)
        return
    with transaction.atomic():  # tokens of all organizations: nobody waits for one that is being deleted
        deleting.unlocked(tokens).update(last_used_at=now)


async def _note_in_thread(token_ids: Collection[UUID]) -> dict[UUID, None]:
    with suppress(DatabaseFailed):  # whoever calls hears of it elsewhere
        await in_thread(_note_uses, token_ids)
    return {}


# One second: within it, a token that is revoked in one process is refused by every other.
principals: LoadingCache[str, Principal] = LoadingCache(_load, seconds=1.0)


# By digest, with the principal as long as it is presumed.
_good_lately: TTLCache[str, Principal | None] = TTLCache(maxsize=10_000, ttl=3600.0)
_noted: TTLCache[str, bool] = TTLCache(maxsize=10_000, ttl=_NOTE_USE_EVERY.total_seconds())  # whose use was noted
_uses: Gatherer[UUID, None] = Gatherer(_note_in_thread)
_noting: set[asyncio.Task[None]] = set()  # strong references: the loop keeps only weak ones
_lock = threading.Lock()
_tries = Local()
_slowed_down = 0


def is_accepted(principal: Principal | None) -> bool:
    """Tell whether requests are accepted: the caller is known, and its organization is not suspended."""
    return principal is not None and not principal.suspended


def token_digest(header: str | None) -> str | None:
    """Return the digest of the bearer token in an Authorization header, or None if it is no token of ours."""
    scheme, _, token = (header or "").partition(" ")
    return digest_of(token.strip()) if scheme.lower() == "bearer" and _TOKEN.fullmatch(token.strip()) else None


def presumed(digest: str) -> Principal | None:
    """Return the principal that a token had lately, for who has it checked by what opens a call; None if not known."""
    with _lock:
        principal = _good_lately.get(digest)
        if principal is None or digest in _noted:
            return principal
        _noted[digest] = True
    task = asyncio.get_running_loop().create_task(_uses.get(principal.token_id))
    _noting.add(task)
    task.add_done_callback(_noting.discard)
    return principal


def drop(digest: str) -> None:
    """Presume nothing more of a token, so that it is looked up."""
    principals.drop(digest)
    with _lock:
        if digest in _good_lately:
            _good_lately[digest] = None


async def recognize(digest: str, request: HttpRequest) -> Principal | None:
    """Return the principal of a token by its digest, or None if the token is unknown or no longer valid.

    Raises TooManyTries after too many unknown tokens from the address of the request, and a second later: who guesses
    without a pause would take the processor by being refused.
    """
    try:
        return principals.get_cached(digest)
    except KeyError:
        pass
    try:
        with _counted(digest, request) as found:
            found.append(await principals.get(digest))
        return found[0]
    except TooManyTries:
        await _slow_down()
        raise


def recognize_sync(digest: str, request: HttpRequest) -> Principal | None:
    """Do what `recognize` does, from synchronous code."""
    try:
        return principals.get_cached(digest)
    except KeyError:
        with _counted(digest, request) as found:
            found.append(principals.get_sync(digest))
        return found[0]


def forget() -> None:
    """Forget everything that is cached about tokens."""
    principals.clear()
    _good_lately.clear()
    _noted.clear()
    _tries.clear()


async def _slow_down() -> None:
    global _slowed_down  # noqa: PLW0603 - of this process's one event loop
    if _slowed_down < MOST_SLOWED_DOWN:
        _slowed_down += 1
        try:
            await asyncio.sleep(SLOWED_DOWN_FOR)
        finally:
            _slowed_down -= 1


@contextmanager
def _counted(digest: str, request: HttpRequest) -> Iterator[list[Principal | None]]:
    """Raise TooManyTries before the look-up if too many tokens were unknown, and count this one if it is unknown too.

    Counting only afterwards lets many valid tokens come from one address at once, as from a proxy after a restart.
    """
    found: list[Principal | None] = []
    with _lock:
        known = digest in _good_lately
    bucket = Bucket(share_of(address_of(request)), UNKNOWN_AT_ONCE, 1.0)
    if not known and (wait := _tries.empty(bucket)):
        raise TooManyTries("Too many unknown tokens came from your address.", retry_after=wait)
    yield found
    principal = found[0] if found else None
    if principal is not None:
        with _lock:
            _good_lately[digest] = principal if is_accepted(principal) else None  # until its organization is resumed
    elif not known:
        _tries.charge(bucket)

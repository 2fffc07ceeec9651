"""Who calls: the token of `Authorization: Bearer duvo_…` becomes a principal, or None.

What does not have the form of a token is never looked up. In each process a client address may try only so many unknown
tokens, because each costs a query. A token that was valid lately is looked up even when its address has used that up.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from cachetools import TTLCache
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from connections.clients import address_of, share_of
from connections.errors import TooManyTries
from connections.throttle import Bucket, Local
from tools.cache import LoadingCache
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


def _load(digest: str) -> Principal | None:
    now = timezone.now()
    live = AccessToken.objects.live(now).select_related("assignment__tenant", "membership__tenant")
    token = live.filter(digest=digest).first()
    if token is None:
        return None
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - _NOTE_USE_EVERY)
    AccessToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    owner = token.assignment or token.membership
    assert owner is not None  # noqa: S101 - the database keeps this promise
    return Principal(
        token_id=token.pk,
        tenant_id=owner.tenant_id,
        assignment_id=token.assignment.pk if token.assignment else None,
        role=token.membership.role if token.membership else None,
        user_id=token.membership.user_id if token.membership else None,
        suspended=owner.tenant.suspended_at is not None,
    )


# One second: within it, a token that is revoked in one process is refused by every other.
principals: LoadingCache[str, Principal | None] = LoadingCache(_load, seconds=1.0)


_good_lately: TTLCache[str, bool] = TTLCache(maxsize=10_000, ttl=3600.0)  # by digest
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
    if any(found):
        with _lock:
            _good_lately[digest] = True
    elif not known:
        _tries.charge(bucket)

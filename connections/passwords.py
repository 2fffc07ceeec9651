"""Passwords: how often one may be tried, and how many are hashed at a time.

Hashing is expensive on purpose, half a second of a core. Before it, and before the database is asked, tries are
counted: per address, per account, and per both. Nobody may lock others out by wrong tries, so a browser in which the
account was signed in before has tries of its own, and nobody else can use them up. Whoever knows the password may use
it often, but not all the time: one account could otherwise keep the hashing thread busy for everybody.
"""

from __future__ import annotations

import os
import secrets
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core import signing
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponseBase

from connections import throttle
from connections.clients import address_of, share_of
from connections.digests import keyed
from connections.errors import TooBusy, TooManyTries
from connections.models import User
from connections.throttle import Bucket

# How many tries at once, and how many per second after that.
OF_BOTH = (5, 1 / 60)  # one account from one address
OF_ADDRESS = (20, 1 / 10)
OF_ACCOUNT = (30, 1 / 20)  # from wherever
OF_BROWSER = (10, 1 / 60)  # one account from a browser in which it was signed in
OF_SIGN_INS = (60, 1 / 20)  # of one account that succeed, from wherever: each costs as much as one that fails
OF_PERSON = (5, 1 / 60)  # who is signed in and enters the password again
MOST_WAITING = 8  # passwords that wait for their turn in one process
PATIENCE = 20.0  # seconds that one waits
COME_AGAIN = 5.0  # seconds that a refused caller is told to wait
NICENESS = 5  # a third of what calls get where the machine is busy: enough to let an operator in

COOKIE = "duvo_browser"
COOKIE_AGE = 90 * 24 * 3600  # seconds
_SALT = "connections.passwords.browser"


paused = Signal()  # somebody tried too often: `name` as typed, `request`


# --- how often ---


class Backend(ModelBackend):
    """Django's sign-in with a password, with a limit on tries."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        """Return the user whose password this is; raises TooManyTries before anything is looked up."""
        if request is None or username is None or password is None:
            return super().authenticate(request, username, password, **kwargs)
        buckets = _buckets(request, username)
        sign_ins = Bucket(f"signed-in:{account_digests(username)[0]}", *OF_SIGN_INS)
        if wait := throttle.take(*buckets, sign_ins):
            paused.send(sender=Backend, name=username, request=request)
            raise TooManyTries("The name or the password was wrong, or entered, too often.", retry_after=wait)
        user = None
        try:
            user = super().authenticate(request, username, password, **kwargs)
        finally:  # only who knows the password uses up sign-ins, and it only
            throttle.give_back(*([sign_ins] if user is None else buckets))
        return user


def take_a_try(user: User) -> None:
    """Count that a person who is signed in enters their password again; raises TooManyTries."""
    if wait := throttle.take(Bucket(f"password:{user.pk}", *OF_PERSON)):
        raise TooManyTries("The password was wrong too often.", retry_after=wait)


def account_digests(name: str) -> list[str]:
    """Return the digests of an account's name, normalized as Django does; people type passwords there, too."""
    return keyed("account", unicodedata.normalize("NFKC", name.strip()).casefold())


def remember_browser(response: HttpResponseBase, user: User, *, secure: bool) -> None:
    """Give this browser tries of its own for the account that has signed in here."""
    value = signing.dumps([account_digests(user.get_username())[0], secrets.token_urlsafe(12)], salt=_SALT)
    response.set_cookie(COOKIE, value, max_age=COOKIE_AGE, secure=secure, httponly=True, samesite="Lax")


def _buckets(request: HttpRequest, name: str) -> list[Bucket]:
    digests = account_digests(name)
    if browser := _browser_of(request, digests):
        return [Bucket(f"browser:{browser}", *OF_BROWSER)]
    account, address = digests[0], share_of(address_of(request)) or "unknown"
    return [
        Bucket(f"account:{account}:{address}", *OF_BOTH),
        Bucket(f"address:{address}", *OF_ADDRESS),
        Bucket(f"account:{account}", *OF_ACCOUNT),
    ]


def _browser_of(request: HttpRequest, digests: list[str]) -> str:
    try:
        account, browser = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=COOKIE_AGE)
    except (signing.BadSignature, ValueError, TypeError):
        return ""
    return str(browser) if account in digests else ""


# --- how many at a time ---


class Hasher(PBKDF2PasswordHasher):
    """PBKDF2 in one thread per process, at a lower priority than calls; raises TooBusy when too many wait."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        """Return the hash after a wait for its turn; raises TooBusy."""
        return _turns.take(super().encode, password, salt, iterations)


class _Turns:
    """One thread that hashes, and those that wait for it."""

    def __init__(self) -> None:
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords", initializer=_lower_priority)

    def take(self, hashing: Any, *args: Any) -> str:
        if not self._waiting.acquire(blocking=False):
            raise TooBusy(retry_after=COME_AGAIN)
        try:
            turn = self._thread.submit(hashing, *args)
            try:
                return str(turn.result(PATIENCE))
            except TimeoutError as error:
                turn.cancel()
                raise TooBusy(retry_after=COME_AGAIN) from error
        finally:
            self._waiting.release()


def _lower_priority() -> None:
    with suppress(OSError, AttributeError):  # Linux knows a priority of each thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


_turns = _Turns()


def _after_fork() -> None:
    global _turns  # noqa: PLW0603 - the thread is the parent's
    _turns = _Turns()


os.register_at_fork(after_in_child=_after_fork)

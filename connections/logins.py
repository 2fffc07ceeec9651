"""Signal handlers that record who signed in and out, who could not, and who changed a password, wherever it was."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest

from connections import audit, metrics, throttle, visits
from connections.clients import address_of
from connections.context import visitor
from connections.digests import keyed
from connections.models import Tenant, User
from connections.passwords import account_digests, paused
from connections.sessions import BEGAN
from connections.throttle import Bucket

# Failures that are recorded, so that nobody fills the table; metrics count all of them. Each account has its own, or
# whoever tries names that nobody has could keep what is tried next from being recorded.
_RECORDED_OF_UNKNOWN = Bucket("written-failures", 200, 1 / 2)
_RECORDED_OF_ONE = (60, 1 / 15)  # more than may be tried


@dataclass
class Account:
    """A name that somebody typed and that no account has: only its keyed digest is stored."""

    pk: str

    def __str__(self) -> str:
        return "unknown account"


@receiver(user_logged_in)
def _signed_in(*, request: HttpRequest, user: User, **_: Any) -> None:
    request.session[BEGAN] = int(time.time())
    if request.method is None:  # not an HTTP request: nobody has entered anything
        return
    request.signed_in = user  # type: ignore[attr-defined] # the middleware marks this browser with a cookie
    metrics.count("sign_ins", outcome="succeeded")
    record(user, "user.signed_in", user, request)


@receiver(user_logged_out)
def _signed_out(*, request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None and request.method is not None:
        visits.stop(request, user)
        record(user, "user.signed_out", user, request)


@receiver(user_login_failed)
def _failed(*, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    metrics.count("sign_ins", outcome="failed")
    _record_failure(str(credentials.get("username", "")), "user.sign_in_failed", request)


@receiver(paused)
def _paused(*, name: str, request: HttpRequest, **_: Any) -> None:
    metrics.count("sign_ins", outcome="paused")
    recorded = Bucket(f"told:{account_digests(name)[0]}", 1, 1 / 600)  # the rest of an attack is only counted
    if throttle.take(recorded) == 0:
        _record_failure(name, "user.sign_in_paused", request)


@receiver(post_save, sender=User)
def _password_changed(*, instance: User, created: bool, **_: Any) -> None:
    # Django keeps the raw password until the row is saved; a hash that is only made anew at a sign-in has none.
    if created or instance._password is None:  # type: ignore[attr-defined] # noqa: SLF001
        return
    request = visitor.get()
    actor = getattr(request, "user", None)
    record(actor if isinstance(actor, User) else "system", "user.password_changed", instance, request)
    key = request.session.session_key if request is not None and actor == instance else None
    instance.end_browsers(but=keyed("session", key) if key else ())  # the others know the old password only


def note_wrong_password(user: User, request: HttpRequest) -> None:
    """Record that a signed-in person wanted to change the password and did not know the old one."""
    record(user, "user.password_change_failed", user, request, outcome="refused")


def _record_failure(name: str, action: str, request: HttpRequest | None) -> None:
    user = User.objects.filter(username=name).first() if "\0" not in name else None
    if throttle.take(
        _RECORDED_OF_UNKNOWN if user is None else Bucket(f"written-failures:{user.pk}", *_RECORDED_OF_ONE)
    ):
        return
    if user is not None:
        record("nobody", action, user, request, outcome="refused")
        return
    account = Account(account_digests(name)[0])
    audit.record(
        "nobody", action, account, tenant=None, outcome="unknown_account",
        address=address_of(request) if request else "",
    )  # fmt: skip


def record(
    actor: User | str, action: str, user: User, request: HttpRequest | None, *, outcome: str = "ok", **data: object
) -> None:
    """Record an event for each organization of the person, whose admins see it."""
    tenants: list[Tenant | None] = list(Tenant.objects.filter(memberships__user=user))
    for tenant in tenants or [None]:
        audit.record(
            actor, action, user, tenant=tenant, outcome=outcome, address=address_of(request) if request else "", **data
        )

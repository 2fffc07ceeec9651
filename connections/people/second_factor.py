"""Second factors: django-allauth's own stories of apps, keys and codes, told with our seals, our mails and our limits.

Whoever has one is asked for it after the password, in the same place; whoever belongs to an organization that requires
one sets it up before they see anything else. A passkey that has checked who holds it is both in one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from ipaddress import ip_address
from smtplib import SMTPException
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import perform_login, record_authentication
from allauth.account.internal.stagekit import unstash_login
from allauth.account.models import Login
from allauth.core import context
from allauth.core.exceptions import ReauthenticationRequired
from allauth.mfa import signals
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY, generate_totp_secret
from allauth.mfa.utils import is_mfa_enabled
from django import forms
from django.conf import settings
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse

from connections import sealing, throttle
from connections.clients import address_of, share_of
from connections.digests import keyed
from connections.errors import SealBroken, TooManyTries
from connections.logins import record
from connections.models import User
from connections.people import mails
from connections.throttle import Bucket

PRODUCT = "Duvo Connections"
CONTEXT = "second factor"  # what the secrets in an authenticator's data are sealed for
SEALED = ("secret", "seed")  # the members of that data
# How many codes at once, and how many per second after that: of one person, and from one address.
OF_PERSON = (5, 1 / 60)
OF_ADDRESS = (20, 1 / 10)
ONCE = (1, 1 / 100)  # a code is good for one use in the 90 seconds that it is good for
_TOLD = {
    "authenticator_added": "{} was added to your account as a second factor.",
    "authenticator_removed": "{} is no second factor of your account any more.",
    "authenticator_reset": "New recovery codes were made for your account. The codes before are worth nothing.",
}

logger = logging.getLogger(__name__)
View = Callable[..., HttpResponseBase]


# --- on the way in ---


def begin(request: HttpRequest, user: User, address: str, *, through: str = "password") -> HttpResponseBase:
    """Sign in a person who is known by now, after the second factor if they have one, and go on to an address."""
    record_authentication(request, user, method=through)
    answer: HttpResponseBase = perform_login(request, Login(user=user, redirect_url=address))
    return answer


def offers_passkeys() -> bool:
    """Whether browsers make passkeys for the host of PUBLIC_URL: they do for names, and for no IP address."""
    try:
        ip_address(urlsplit(settings.PUBLIC_URL).hostname or "")
    except ValueError:
        return True
    return False


def is_set_up(user: User) -> bool:
    """Whether the person has a second factor; recovery codes alone are none."""
    return bool(is_mfa_enabled(user, [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]))


def is_missing(user: User) -> bool:
    """Whether an organization requires a second factor, and the person has none."""
    return user.needs_second_factor and not is_set_up(user)


def take_away(user: User) -> int:
    """Remove every second factor of a person who has lost it, and sign them out; return how many there were."""
    with transaction.atomic():
        removed = int(Authenticator.objects.filter(user=user).delete()[0])
        user.end_sessions()
    return removed


def limited(view: View) -> View:
    """Limit how often codes and keys are tried; raises TooManyTries. One code opens once, over all processes."""

    @wraps(view)
    def bounded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        whose = _whose(request)
        tries = [Bucket(f"second-factor-from:{share_of(address_of(request)) or 'unknown'}", *OF_ADDRESS)]
        tries += [Bucket(f"second-factor:{whose}", *OF_PERSON)] if whose else []
        if wait := throttle.take(*tries):
            raise TooManyTries("Codes were tried too often.", retry_after=wait)
        used = _code_of(request, whose)
        if used is not None and (wait := throttle.take(used)):
            raise TooManyTries("This code was used already. The app shows another one in a moment.", retry_after=30)
        was_right = False
        try:
            answer = view(request, *args, **kwargs)
            was_right = answer.status_code == 302  # noqa: PLR2004 - else the page is shown again
        except ReauthenticationRequired:
            throttle.give_back(*tries)  # nothing was tried
            raise
        finally:
            throttle.give_back(*(tries if was_right else [used] if used else []))
        return answer

    return bounded


def _whose(request: HttpRequest) -> int | None:
    if isinstance(request.user, User):
        return request.user.pk
    login = unstash_login(request, peek=True)
    return login.user.pk if login is not None and login.user is not None else None


def _code_of(request: HttpRequest, whose: int | None) -> Bucket | None:
    code = "".join(request.POST.get("code", "").split())
    return Bucket(f"used-code:{keyed('code', f'{whose} {code}')[0]}", *ONCE) if code and whose else None


# --- how allauth is told to do things ---


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Nobody signs up by themselves, and mails about an account are ours."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Return False: people are invited."""
        return False

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `_told` mails what happened."""


class MFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Secrets of second factors are sealed; keys belong to the host of PUBLIC_URL."""

    def encrypt(self, text: str) -> str:
        """Return a secret as it is stored."""
        return sealing.seal(text, context=CONTEXT)

    def decrypt(self, encrypted_text: str) -> str:
        """Return a stored secret; raises SealBroken."""
        return str(sealing.unseal(encrypted_text, context=CONTEXT))

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Return for which host keys are made (Web Authentication, section 5.4.2)."""
        return {"id": urlsplit(settings.PUBLIC_URL).hostname or "localhost", "name": PRODUCT}

    def generate_authenticator_name(self, user: Any, type: Any) -> str:  # noqa: A002 - allauth's own name
        """Return what a key is called that is given no name."""
        number = Authenticator.objects.filter(user_id=user.pk, type=type).count() + 1
        return "Passkey" if number == 1 else f"Passkey {number}"


class TotpForm(ActivateTOTPForm):  # type: ignore[misc]
    """The first code of an authenticator app; its secret waits sealed in the session."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make a new secret for a page, and take the one of the page for a code."""
        self.user = kwargs.pop("user")
        forms.Form.__init__(self, *args, **kwargs)
        self.fields["code"].label = "Code that the app shows"
        self.secret = self._kept() if self.is_bound else ""
        if not self.secret:
            self.secret = generate_totp_secret()
            context.request.session[SECRET_SESSION_KEY] = sealing.seal(self.secret, context=CONTEXT)

    @staticmethod
    def _kept() -> str:
        try:
            return str(sealing.unseal(context.request.session.get(SECRET_SESSION_KEY, ""), context=CONTEXT))
        except SealBroken:
            return ""


# --- what is written down and mailed ---


@receiver([signals.authenticator_added, signals.authenticator_removed, signals.authenticator_reset])
def _told(*, signal: Any, request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    name = next(name for name in _TOLD if getattr(signals, name) is signal)
    record(user, f"user.{name.replace('authenticator', 'second_factor')}", user, request, of=str(authenticator))
    if settings.EMAIL_BACKEND == settings.NO_MAIL or not user.email:
        return
    what = {Authenticator.Type.TOTP: "An authenticator app", Authenticator.Type.WEBAUTHN: "A passkey"}
    if authenticator.type not in what and name != "authenticator_reset":
        return  # recovery codes come and go with what they recover
    lines = [
        _TOLD[name].format(what.get(authenticator.type, "")),
        "",
        "If this was not you, change your password at once, and tell an admin of your organization.",
        "",
        f"{settings.PUBLIC_URL}{reverse('account')}",
    ]
    try:
        mails.send(f"{PRODUCT}: your second factor has changed", lines, user.email)
    except (SMTPException, OSError, ValueError) as failure:
        logger.warning("User %s could not be told of a second factor: %s", user.pk, type(failure).__name__)


@receiver(signals.authentication_failed)
def _failed(*, request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    record(user, "user.second_factor_failed", user, request, outcome="refused", of=str(authenticator))

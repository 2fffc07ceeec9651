"""The story of a forgotten password, and of a new e-mail address: ask, and prove it by a link in a mail.

The keys in these links are signed and stored nowhere. One to a new password is worth nothing once the password, the
address or the last sign-in is another one, and after an hour; one to an address once the address has changed, and after
a day.
"""

from __future__ import annotations

import logging
from smtplib import SMTPException
from urllib.parse import urlencode

from celery import current_app
from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core import signing
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from kombu.exceptions import OperationalError

from connections import throttle
from connections.clients import address_of, share_of
from connections.errors import TooManyTries, TryLater
from connections.logins import record
from connections.models import User
from connections.passwords import account_digests
from connections.people import mails
from connections.throttle import Bucket

TASK = "connections.mail_new_password"
# Mails at once, and how many per second after that.
OF_ACCOUNT = (3, 1 / 600)
OF_ADDRESS = (10, 1 / 60)
_SALT = "connections.people.email"
_EMAIL_WORKS_FOR = 24 * 3600  # seconds

logger = logging.getLogger(__name__)


# --- a forgotten password ---


def ask(name: str, request: HttpRequest) -> None:
    """Have a link mailed to whoever has this address or name; nobody can see whether somebody has.

    Raises TooManyTries, and TryLater while nothing can be mailed.
    """
    account = Bucket(f"forgotten:{account_digests(name)[0]}", *OF_ACCOUNT)
    origin = Bucket(f"forgotten-from:{share_of(address_of(request)) or 'unknown'}", *OF_ADDRESS)
    if wait := throttle.take(account, origin):
        raise TooManyTries("A link was asked for too often.", retry_after=wait)
    for user in _called(name):
        record("nobody", "user.new_password_asked", user, request)
        try:
            current_app.send_task(
                TASK, kwargs={"user_id": user.pk}, expires=settings.PASSWORD_RESET_TIMEOUT, retry=False
            )
        except (OperationalError, OSError) as failure:
            raise TryLater("Nothing can be mailed at this moment.", retry_after=60) from failure


def mail_link(user_id: int) -> None:
    """Mail a person the link to a new password; raises what a mail server may, so that it is tried again."""
    user = User.objects.filter(pk=user_id, is_active=True).exclude(email="").first()
    if user is None:
        return
    link = f"{settings.PUBLIC_URL}{reverse('new-password')}?{urlencode({'key': key_of(user)})}"
    lines = [
        f"Somebody, probably you, wants a new password for {user.get_username()} on Duvo Connections.",
        "",
        link,
        "",
        "The link works once, for an hour. If it was not you, leave it: your password stays as it is.",
    ]
    mails.send("Duvo Connections: a new password", lines, user.email)


def key_of(user: User) -> str:
    """Return the key of a link to a new password for this person."""
    return f"{user.pk}.{default_token_generator.make_token(user)}"


def person_of(key: str) -> User | None:
    """Return whose new password a link is for, None if it is worth nothing."""
    number, _, token = key.partition(".")
    if not (number.isascii() and number.isdecimal() and len(number) < 19):  # noqa: PLR2004 - a bigint
        return None
    user = User.objects.filter(pk=int(number), is_active=True).first()
    return user if user is not None and default_token_generator.check_token(user, token) else None


def _called(name: str) -> list[User]:
    if "\0" in name or not name.strip():
        return []
    named = Q(email__iexact=name.strip()) | Q(username__iexact=name.strip())
    return list(User.objects.filter(named, is_active=True).exclude(email="")[:5])


# --- another e-mail address ---


def ask_about(user: User, email: str) -> None:
    """Mail a link to a new address, which counts once they have opened it; raises TooManyTries and TryLater."""
    if wait := throttle.take(Bucket(f"new-address:{user.pk}", *OF_ACCOUNT)):
        raise TooManyTries("A link was asked for too often.", retry_after=wait)
    key = signing.dumps([user.pk, user.email, email], salt=_SALT)
    link = f"{settings.PUBLIC_URL}{reverse('new-email')}?{urlencode({'key': key})}"
    lines = [
        f"{user.get_username()} on Duvo Connections wants to be mailed at this address from now on.",
        "",
        link,
        "",
        "The link works for a day, for who is signed in. If it was not you, leave it: nothing happens.",
    ]
    try:
        mails.send("Duvo Connections: your new e-mail address", lines, email)
    except (SMTPException, OSError, ValueError) as failure:
        raise TryLater("The mail server did not take the mail.", retry_after=60) from failure


def address_in(key: str, user: User) -> str:
    """Return the address that a link is for, "" if it is worth nothing, or not to this person."""
    try:
        number, before, email = signing.loads(key, salt=_SALT, max_age=_EMAIL_WORKS_FOR)
    except (signing.BadSignature, ValueError, TypeError):
        return ""
    return str(email) if (number, before) == (user.pk, user.email) else ""


def take_address(user: User, email: str, request: HttpRequest) -> None:
    """Make it the person's address."""
    user.email = email
    user.save(update_fields=["email"])
    user.prove_address()
    record(user, "user.email_changed", user, request)

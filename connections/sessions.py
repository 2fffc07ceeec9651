"""Sessions in the database, under a digest of the cookie: nobody can sign in with what is in the database.

A session ends after SESSION_COOKIE_AGE without a request, and in any case SESSION_LONGEST after the sign-in.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as StockStore
from django.contrib.sessions.models import Session
from django.utils import timezone

from connections.clients import address_of
from connections.context import visitor
from connections.digests import keyed
from connections.models import BrowserSession

_KEY = re.compile("[0-9a-z]{32}")
BEGAN = "_began"  # Unix time
_LONGEST_AGENT = 400  # characters that are read
_BROWSERS = {"Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
_SYSTEMS = {
    "iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows", "Mac OS": "macOS",
    "CrOS": "ChromeOS", "Linux": "Linux",
}  # fmt: skip
RENEW_EVERY = timedelta(minutes=10)  # how often at most requests save a session again


class SessionStore(StockStore):
    """Django's sessions; `session_key` is the cookie's value, and no row has it."""

    @property
    def key_salt(self) -> str:
        """Return what the signature of the data is bound to."""
        return "connections.sessions"

    def load(self) -> dict[str, Any]:
        """Return the session's data, {} when there is none or it is over; one in use is renewed."""
        row = self._row()
        if row is None:
            self._session_key = None
            return {}
        data: dict[str, Any] = self.decode(row.session_data)
        if self._end_of(data) <= timezone.now():
            row.delete()
            self._session_key = None
            return {}
        left = row.expire_date - timezone.now()
        if left < timedelta(seconds=settings.SESSION_COOKIE_AGE) - RENEW_EVERY:
            self.modified = True
        return data

    async def aload(self) -> dict[str, Any]:
        """Refuse: pages are synchronous."""
        raise NotImplementedError

    async def acreate_model_instance(self, data: dict[str, Any]) -> Session:
        """Refuse: pages are synchronous."""
        raise NotImplementedError

    def exists(self, session_key: str) -> bool:
        """Tell whether there is such a session."""
        return Session.objects.filter(session_key__in=keyed("session", session_key)).exists()

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        """Return the row of this session."""
        key = self._get_or_create_session_key()  # type: ignore[attr-defined] # Django's own, unknown to its stubs
        data.setdefault(BEGAN, int(time.time()))
        return Session(
            session_key=keyed("session", key)[0], session_data=self.encode(data), expire_date=self.get_expiry_date()
        )

    def save(self, must_create: bool = False) -> None:
        """Write the session, and of a signed-in person's note in which browser it is."""
        super().save(must_create)
        if (user := self.get(SESSION_KEY)) and self.session_key:
            _note_browser(keyed("session", self.session_key)[0], user)

    def delete(self, session_key: str | None = None) -> None:
        """Delete a session, this one if no other is named."""
        key = session_key or self.session_key
        if key is not None:
            Session.objects.filter(session_key__in=keyed("session", key)).delete()
            BrowserSession.objects.filter(key__in=keyed("session", key)).delete()

    def get_expiry_age(self, **kwargs: Any) -> int:
        """Return the seconds until the session ends, as the cookie has it."""
        left = int((self._end_of(dict(self.items())) - timezone.now()).total_seconds())
        return max(1, min(super().get_expiry_age(**kwargs), left))

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        """Return when the session ends unless it is used."""
        date: datetime = super().get_expiry_date(**kwargs)
        return min(date, self._end_of(dict(self.items())))

    def _row(self) -> Session | None:
        """Return the row; one that was stored under an older key moves to the current one."""
        if self.session_key is None or not _KEY.fullmatch(self.session_key):
            return None
        digests = keyed("session", self.session_key)
        row = Session.objects.filter(session_key__in=digests, expire_date__gt=timezone.now()).first()
        if row is not None and row.session_key != digests[0]:
            Session.objects.filter(session_key=row.session_key).update(session_key=digests[0])
            BrowserSession.objects.filter(key=row.session_key).update(key=digests[0])
            row.session_key = digests[0]
        return row

    @staticmethod
    def _end_of(data: dict[str, Any]) -> datetime:
        began = data.get(BEGAN, time.time())
        return datetime.fromtimestamp(began, UTC) + timedelta(seconds=settings.SESSION_LONGEST)


def browser_of(agent: str) -> str:
    """Return what a browser says that it is, as people call it: "Firefox on Linux"; "" where it says nothing known."""
    agent = agent[:_LONGEST_AGENT]
    browser = next((name for mark, name in _BROWSERS.items() if mark in agent), "")
    system = next((name for mark, name in _SYSTEMS.items() if mark in agent), "")
    return " on ".join(filter(None, [browser, system]))


def forget_browsers() -> None:
    """Forget the browsers whose session is over."""
    BrowserSession.objects.exclude(key__in=Session.objects.values("session_key")).delete()


def _note_browser(key: str, user: str) -> None:
    request = visitor.get()
    seen: dict[str, Any] = {"user_id": user, "seen_at": timezone.now()}
    if request is not None:
        seen |= {"name": browser_of(request.headers.get("User-Agent", "")), "address": address_of(request)}
    BrowserSession.objects.update_or_create(key=key, defaults=seen)

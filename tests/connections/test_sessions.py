"""Who reads the database cannot sign in with what they read, and every session ends."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from connections.models import User
from connections.sessions import BEGAN
from connections.tasks import forget_sessions
from tests.conftest import PASSWORD, House

pytestmark = pytest.mark.smoke

SignedIn = Callable[[User | None], Client]


def is_in(browser: Client) -> bool:
    return browser.get("/admin/").status_code == 200


def seal_key(text: str) -> str:
    return base64.urlsafe_b64encode(text.ljust(32, "x").encode()).decode()


def test_what_the_database_keeps_of_a_session_opens_nothing(acme: House, signed_in: SignedIn, settings: Any) -> None:
    browser = signed_in(acme.admin)
    assert is_in(browser)
    row = Session.objects.get()
    cookie = browser.cookies[settings.SESSION_COOKIE_NAME].value
    assert cookie not in row.session_key
    reader = Client()
    reader.cookies[settings.SESSION_COOKIE_NAME] = row.session_key
    assert not is_in(reader)


def test_sessions_live_on_while_the_seal_keys_are_rotated(acme: House, signed_in: SignedIn, settings: Any) -> None:
    old, new = settings.SEAL_KEYS[0], seal_key("new")
    browser = signed_in(acme.admin)
    settings.SEAL_KEYS = [new, old]
    assert is_in(browser)
    settings.SEAL_KEYS = [new]
    assert is_in(browser)
    settings.SEAL_KEYS = [seal_key("another")]
    assert not is_in(browser)


def test_sessions_live_on_while_the_key_that_signs_them_is_changed(
    acme: House, signed_in: SignedIn, settings: Any
) -> None:
    old, new = settings.SECRET_KEY, "n" * 50
    browser = signed_in(acme.admin)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = old, [new]
    assert is_in(browser)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = new, [old]
    assert is_in(browser)  # and is signed anew
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = new, []
    assert is_in(browser)
    settings.SECRET_KEY = "a" * 50
    assert not is_in(browser)


def test_a_session_ends_twelve_hours_after_its_last_use(acme: House, signed_in: SignedIn) -> None:
    browser = signed_in(acme.admin)
    assert timedelta(hours=11, minutes=59) < Session.objects.get().expire_date - timezone.now() <= timedelta(hours=12)
    Session.objects.update(expire_date=timezone.now() + timedelta(hours=11))
    assert is_in(browser)  # one hour later, in use
    assert Session.objects.get().expire_date - timezone.now() > timedelta(hours=11, minutes=59)
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert not is_in(browser)
    forget_sessions()
    assert not Session.objects.exists()


def test_a_session_ends_a_week_after_the_sign_in_however_much_it_is_used(acme: House, signed_in: SignedIn) -> None:
    browser = signed_in(acme.admin)
    session = browser.session
    session[BEGAN] = int(time.time()) - 7 * 24 * 3600 + 3600
    session.save()
    assert Session.objects.get().expire_date - timezone.now() <= timedelta(hours=1)
    assert is_in(browser)
    session[BEGAN] = int(time.time()) - 7 * 24 * 3600 - 1
    session.save()
    Session.objects.update(expire_date=timezone.now() + timedelta(hours=12))
    assert not is_in(browser)
    assert not Session.objects.exists()


def test_a_changed_password_ends_the_other_sessions_of_the_person(acme: House, signed_in: SignedIn) -> None:
    here, elsewhere, colleague = signed_in(acme.admin), signed_in(acme.admin), signed_in(acme.member)
    new = "another horse battery staple"
    changed = here.post(
        "/admin/password_change/", {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    )
    assert changed.status_code == 302
    assert (is_in(here), is_in(elsewhere), is_in(colleague)) == (True, False, True)


def test_who_signs_out_leaves_no_session_behind(acme: House, signed_in: SignedIn, settings: Any) -> None:
    browser = signed_in(acme.admin)
    cookie = browser.cookies[settings.SESSION_COOKIE_NAME].value
    assert browser.post("/admin/logout/").status_code == 200
    assert not Session.objects.exists()
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = cookie
    assert not is_in(thief)


def test_a_sign_in_gets_a_new_session_and_keeps_none_that_was_planted(acme: House, settings: Any) -> None:
    browser = Client()
    planted = "planted0planted0planted0planted0"
    browser.cookies[settings.SESSION_COOKIE_NAME] = planted
    browser.post("/admin/login/", {"username": acme.admin.username, "password": PASSWORD})
    assert is_in(browser)
    assert browser.cookies[settings.SESSION_COOKIE_NAME].value != planted


@pytest.mark.parametrize(
    "path", ["/admin/login/", "/admin/", "/v1/oauth/mcp/callback?code=x&state=y", "/no/such/page", "/v1/tools"]
)
def test_a_stranger_s_visits_make_no_sessions(db: None, path: str) -> None:
    Client().get(path)
    Client().post("/admin/login/", {"username": "nobody", "password": "wrong"})
    assert not Session.objects.exists()

"""One's own account: a forgotten password, another address, and the browsers in which one is signed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session
from django.core import signing
from django.test import Client

from connections.models import AuditEvent, BrowserSession, User
from connections.people import resetting
from connections.tasks import forget_sessions, mail_new_password
from tests.conftest import PASSWORD, House
from tests.connections.people.links import heading, last_link
from tests.reading import messages
from tests.servers.mail import MailServer

pytestmark = [pytest.mark.django_db, pytest.mark.smoke]

SignedIn = Callable[[User | None], Client]
NEW = "another horse battery staple"
BOTH = {"password1": NEW, "password2": NEW}
FORGOTTEN = "/account/forgotten/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
CHROME = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"


def is_in(browser: Client) -> bool:
    return browser.get("/admin/").status_code == 200


def enter(user: User, password: str = PASSWORD, agent: str = FIREFOX) -> Client:
    browser = Client(headers={"User-Agent": agent})
    browser.post("/admin/login/", {"username": user.username, "password": password, "next": "/admin/"})
    return browser


# --- a forgotten password ---


@pytest.fixture
def link(acme: House, mail_server: MailServer) -> str:
    mail_new_password(user_id=acme.admin.pk)
    return last_link(mail_server, acme.admin.email)


def test_whoever_forgot_a_password_is_mailed_a_link_and_the_answer_tells_nothing(
    acme: House, broker: Any, mail_server: MailServer
) -> None:
    asked = [Client().post(FORGOTTEN, {"name": name}) for name in (acme.admin.email.upper(), "nobody@acme.example")]
    assert asked[0].content == asked[1].content
    assert [arguments for _, arguments in messages(broker, "probes")] == [{"user_id": acme.admin.pk}]


def test_the_link_sets_a_new_password_once_and_signs_every_browser_out(
    acme: House, signed_in: SignedIn, mail_server: MailServer
) -> None:
    elsewhere, browser = signed_in(acme.admin), Client()
    acme.admin.refresh_from_db()
    mail_new_password(user_id=acme.admin.pk)
    link = last_link(mail_server, acme.admin.email)
    assert is_in(elsewhere)
    assert "For <strong" in browser.get(link).content.decode()
    assert browser.post(link, BOTH)["Location"] == "/admin/login/"
    assert (is_in(elsewhere), is_in(browser)) == (False, False)
    assert is_in(enter(acme.admin, NEW))
    assert not is_in(enter(acme.admin))
    for answer in (browser.get(link), browser.post(link, BOTH)):
        assert (answer.status_code, heading(answer.content)) == (410, "This link opens nothing")
    assert AuditEvent.objects.filter(action="user.password_changed", object_id=str(acme.admin.pk)).exists()


def test_the_link_is_worth_nothing_after_an_hour_or_after_a_sign_in(acme: House, link: str, settings: Any) -> None:
    settings.PASSWORD_RESET_TIMEOUT = -1
    assert Client().get(link).status_code == 410
    settings.PASSWORD_RESET_TIMEOUT = 3600
    assert Client().get(link).status_code == 200
    enter(acme.admin)
    assert Client().post(link, BOTH).status_code == 410


@pytest.mark.parametrize("key", ["", "x", "1", "1.", ".x", "99999999999999999999.x", "٣.x", "1.a\0b"])
def test_a_key_that_was_never_made_opens_nothing(acme: House, key: str) -> None:
    assert Client().get("/account/new-password/", {"key": key}).status_code == 410


def test_a_key_of_one_person_is_none_of_another(acme: House, link: str) -> None:
    token = link.rpartition(".")[2]
    assert Client().post(f"/account/new-password/?key={acme.member.pk}.{token}", BOTH).status_code == 410


def test_a_deactivated_person_gets_no_link(acme: House, link: str, mail_server: MailServer) -> None:
    User.objects.filter(pk=acme.admin.pk).update(is_active=False)
    mail_new_password(user_id=acme.admin.pk)
    assert len(mail_server.taken) == 1
    assert Client().post(link, BOTH).status_code == 410


def test_links_are_not_asked_for_without_end(
    acme: House, broker: Any, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resetting, "OF_ACCOUNT", (2, 1 / 1000))
    monkeypatch.setattr(resetting, "OF_ADDRESS", (4, 1 / 1000))
    of_one = [Client().post(FORGOTTEN, {"name": acme.admin.email}).status_code for _ in range(3)]
    assert of_one == [200, 200, 429]
    others = [Client().post(FORGOTTEN, {"name": f"x{number}@acme.example"}).status_code for number in range(3)]
    assert others == [200, 200, 429]


def test_a_guessable_password_is_refused_and_the_link_goes_on_working(acme: House, link: str) -> None:
    browser = Client()
    page = browser.post(link, {"password1": "password", "password2": "password"})
    assert "too common" in page.content.decode()
    assert browser.post(link, BOTH).status_code == 302


def test_without_a_mail_server_the_page_says_whom_to_ask(acme: House, settings: Any) -> None:
    settings.EMAIL_BACKEND = settings.NO_MAIL
    assert "sends no mail" in Client().get(FORGOTTEN).content.decode()


# --- another address ---


def test_a_new_address_counts_once_its_link_is_opened(
    acme: House, signed_in: SignedIn, mail_server: MailServer
) -> None:
    browser = signed_in(acme.admin)
    assert browser.post("/account/email/", {"email": "Ann@acme.example"})["Location"] == "/account/"
    link = last_link(mail_server, "ann@acme.example")
    browser.get(link)
    acme.admin.refresh_from_db()
    assert acme.admin.email == "admin@acme.example"
    assert signed_in(acme.member).post(link).status_code == 410  # it is for who asked
    assert Client().get(link)["Location"].startswith("/admin/login/?next=/account/new-email/")
    assert browser.post(link)["Location"] == "/account/"
    acme.admin.refresh_from_db()
    assert (acme.admin.email, acme.admin.username) == ("ann@acme.example", "admin@acme.example")
    assert browser.post(link).status_code == 410
    assert AuditEvent.objects.filter(action="user.email_changed", tenant=acme.tenant).exists()


def test_a_link_to_an_address_that_we_did_not_sign_is_worth_nothing(acme: House, signed_in: SignedIn) -> None:
    made = signing.dumps([acme.admin.pk, acme.admin.email, "x@acme.example"], salt="another")
    for key in ("", "x", made):
        assert signed_in(acme.admin).post(f"/account/new-email/?key={key}").status_code == 410


# --- where one is signed in ---


def test_every_browser_is_listed_to_whom_it_is(acme: House, rival: House) -> None:
    here, there = enter(acme.admin), enter(acme.admin, agent=CHROME)
    enter(rival.admin)
    page = here.get("/account/").content.decode()
    assert "Firefox on Linux" in page
    assert "Chrome on Windows" in page
    assert page.count("127.0.0.1") == 2
    assert page.count('value="') >= 1
    assert is_in(there)


def test_one_browser_is_ended_and_then_all_others(acme: House) -> None:
    here, there, yonder = enter(acme.admin), enter(acme.admin, agent=CHROME), enter(acme.admin)
    row = BrowserSession.objects.get(name="Chrome on Windows")
    assert here.post(f"/account/browsers/{row.pk}/end/")["Location"] == "/account/"
    assert (is_in(here), is_in(there), is_in(yonder)) == (True, False, True)
    here.post("/account/browsers/end-others/")
    assert (is_in(here), is_in(yonder)) == (True, False)
    assert AuditEvent.objects.filter(action="user.session_ended", tenant=acme.tenant).count() == 2


def test_nobody_ends_somebody_elses_browser(acme: House, rival: House) -> None:
    ann, mallory = enter(acme.admin), enter(rival.admin)
    row = BrowserSession.objects.get(user=acme.admin)
    real, none = (mallory.post(f"/account/browsers/{key}/end/") for key in (row.pk, uuid4()))
    assert (real.status_code, none.status_code) == (404, 404)
    assert real.content == none.content
    assert is_in(ann)


def test_a_browser_that_signs_out_is_listed_no_more_and_old_ones_are_forgotten(acme: House) -> None:
    browser, other = enter(acme.admin), enter(acme.admin)
    browser.post("/admin/logout/")
    assert BrowserSession.objects.count() == 1
    Session.objects.all().delete()
    forget_sessions()
    assert not BrowserSession.objects.exists()
    assert not is_in(other)


def test_a_changed_password_leaves_only_this_browser_on_the_list(acme: House) -> None:
    here, there = enter(acme.admin), enter(acme.admin)
    form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    assert here.post("/admin/password_change/", form).status_code == 302
    assert (is_in(here), is_in(there)) == (True, False)
    assert BrowserSession.objects.count() == 1


@pytest.mark.parametrize(
    "path", ["/account/", "/account/new-email/?key=x", "/account/codes/", "/account/confirm/", "/account/app/remove/"]
)
def test_strangers_are_sent_to_the_door(db: None, path: str) -> None:
    answer = Client().get(path)
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/admin/login/")

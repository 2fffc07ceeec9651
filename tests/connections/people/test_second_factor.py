"""A second factor: asked for after the password, limited, sealed, and required where an organization says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client

from connections import rotation, seal_report, sealing
from connections.models import AuditEvent, Tenant, User
from connections.people import second_factor
from tests.conftest import PASSWORD, House
from tests.connections.people.links import heading
from tests.connections.test_sessions import seal_key
from tests.servers.mail import MailServer

pytestmark = pytest.mark.django_db

SignedIn = Callable[[User | None], Client]
SET_UP, CODE, HOME = "/account/app/set-up/", "/account/second-factor/", "/admin/"


def code(secret: str, *, steps: int = 0) -> str:
    """The code that an app shows now, or so many half minutes from now."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))


def confirm(browser: Client, path: str) -> None:
    """Enter the password once more, as each change of how one signs in wants it."""
    asked = browser.get(path)
    assert asked["Location"].startswith("/account/confirm/?next=")
    assert browser.post(asked["Location"], {"password": PASSWORD})["Location"] == path


def set_up(browser: Client) -> str:
    """Set an app up; return its secret."""
    confirm(browser, SET_UP)
    secret: str = browser.get(SET_UP).context["form"].secret
    answer = browser.post(SET_UP, {"code": code(secret)})
    assert (answer.status_code, answer["Location"]) == (302, "/account/codes/")
    return secret


def enter(user: User, *, browser: Client | None = None) -> tuple[Client, Any]:
    browser = browser or Client()
    form = {"username": user.username, "password": PASSWORD, "next": "/admin/connections/connection/"}
    return browser, browser.post("/admin/login/", form)


def is_in(browser: Client) -> bool:
    return browser.get(HOME).status_code == 200


def test_who_has_an_app_is_asked_for_its_code_after_the_password(acme: House, signed_in: SignedIn) -> None:
    secret = set_up(signed_in(acme.admin))
    browser, answer = enter(acme.admin)
    assert answer["Location"] == CODE
    assert not is_in(browser)
    assert AuditEvent.objects.filter(action="user.signed_in").count() == 0
    wrong = browser.post(CODE, {"code": "000000"})
    assert "Incorrect code" in wrong.content.decode()
    assert not is_in(browser)
    right = browser.post(CODE, {"code": code(secret, steps=1)})
    assert right["Location"] == "/admin/connections/connection/"
    assert is_in(browser)
    actions = set(AuditEvent.objects.values_list("action", "outcome"))
    assert {("user.signed_in", "ok"), ("user.second_factor_failed", "refused")} <= actions


def test_who_has_none_comes_in_with_the_password_alone(acme: House) -> None:
    browser, answer = enter(acme.member)
    assert answer["Location"] == "/admin/connections/connection/"
    assert is_in(browser)


def test_one_code_opens_once(acme: House, signed_in: SignedIn) -> None:
    secret = set_up(signed_in(acme.admin))
    shown = code(secret, steps=1)
    first, _ = enter(acme.admin)
    second, _ = enter(acme.admin)
    assert first.post(CODE, {"code": shown}).status_code == 302
    assert second.post(CODE, {"code": f" {shown[:3]} {shown[3:]}"}).status_code == 429
    assert not is_in(second)


def test_codes_cannot_be_guessed_for_ever(acme: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_factor, "OF_PERSON", (5, 1 / 1000))
    secret = set_up(signed_in(acme.admin))
    browser, _ = enter(acme.admin)
    answers = [browser.post(CODE, {"code": f"{number:06}"}).status_code for number in range(6)]
    assert answers == [200, 200, 200, 200, 200, 429]
    other, _ = enter(acme.admin)  # from another browser it is the same account
    assert other.post(CODE, {"code": code(secret, steps=1)}).status_code == 429
    assert not is_in(other)


def test_a_recovery_code_opens_once_and_is_shown_once(acme: House, signed_in: SignedIn) -> None:
    here = signed_in(acme.admin)
    set_up(here)
    codes = here.get("/account/codes/").context["unused_codes"]
    assert len(codes) == 10
    assert codes[0] not in here.get("/account/codes/").content.decode()
    browser, _ = enter(acme.admin)
    assert browser.post(CODE, {"code": codes[0]}).status_code == 302
    again, _ = enter(acme.admin)
    assert again.post(CODE, {"code": codes[0]}).status_code in {200, 429}
    assert not is_in(again)
    assert "9 of 10 left" in here.get("/account/").content.decode()


def test_the_second_step_needs_the_first(acme: House, signed_in: SignedIn) -> None:
    secret = set_up(signed_in(acme.admin))
    stranger = Client()
    for answer in (stranger.get(CODE), stranger.post(CODE, {"code": code(secret, steps=1)})):
        assert (answer.status_code, answer["Location"]) == (302, "/account/sign-in/")
    assert stranger.get("/account/sign-in/?next=/admin/")["Location"] == "/admin/login/?next=/admin/"


def test_nothing_of_how_one_signs_in_changes_without_the_password(acme: House, signed_in: SignedIn) -> None:
    browser = signed_in(acme.admin)
    for path in (SET_UP, "/account/keys/add/", "/account/codes/new/"):
        assert browser.get(path)["Location"].startswith("/account/confirm/"), path
        assert browser.post(path, {"code": "1"})["Location"].startswith("/account/confirm/"), path
    wrong = browser.post("/account/confirm/?next=/account/app/set-up/", {"password": "wrong"})
    assert wrong.status_code == 200
    assert browser.get(SET_UP)["Location"].startswith("/account/confirm/")
    assert not Authenticator.objects.exists()


def test_a_change_is_written_down_and_mailed(
    acme: House, signed_in: SignedIn, mail_server: MailServer, django_capture_on_commit_callbacks: Any
) -> None:
    browser = signed_in(acme.admin)
    with django_capture_on_commit_callbacks(execute=True):
        set_up(browser)
    browser.post("/account/app/remove/")
    assert not Authenticator.objects.exists()
    told = [message.get_content() for address, message in mail_server.taken if address == acme.admin.email]
    assert [text.splitlines()[0] for text in told] == [
        "An authenticator app was added to your account as a second factor.",
        "An authenticator app is no second factor of your account any more.",
    ]
    actions = AuditEvent.objects.filter(tenant=acme.tenant).values_list("action", flat=True)
    assert {"user.second_factor_added", "user.second_factor_removed"} <= set(actions)


def test_secrets_are_sealed_in_the_row_and_in_the_session_and_are_rotated(
    acme: House, signed_in: SignedIn, settings: Any
) -> None:
    browser = signed_in(acme.admin)
    confirm(browser, SET_UP)
    secret = browser.get(SET_UP).context["form"].secret
    assert secret not in str(dict(browser.session.items()))
    browser.post(SET_UP, {"code": code(secret)})
    assert secret not in str(list(Authenticator.objects.values()))
    old, new = settings.SEAL_KEYS[0], seal_key("new")
    settings.SEAL_KEYS = [new, old]
    [_, older] = seal_report.keys([])
    assert older.sealed["mfa.Authenticator.data"] == 2  # the app's secret, and the seed of the codes
    assert not older.may_go
    assert sum(progress.broken for progress in rotation.rotate()) == 0
    settings.SEAL_KEYS = [new]
    row = Authenticator.objects.get(type="totp")
    assert sealing.unseal(row.data["secret"], context=second_factor.CONTEXT) == secret
    other, _ = enter(acme.admin)
    assert other.post(CODE, {"code": code(secret, steps=1)}).status_code == 302


def test_staff_take_a_lost_one_away(acme: House, superuser: User, signed_in: SignedIn) -> None:
    here = signed_in(acme.admin)
    set_up(here)
    page = f"/admin/connections/user/{acme.admin.pk}"
    staff = signed_in(superuser)
    assert "Take it away" in staff.get(f"{page}/change/").content.decode()
    assert staff.post(f"{page}/without-factor/").status_code == 302
    assert not Authenticator.objects.exists()
    assert not is_in(here)
    assert is_in(enter(acme.admin)[0])
    assert "Take it away" not in staff.get(f"{page}/change/").content.decode()


# --- required ---


@pytest.fixture
def strict(acme: House) -> Tenant:
    Tenant.objects.filter(pk=acme.tenant.pk).update(require_second_factor=True)
    return acme.tenant


def test_an_admin_requires_it_of_everybody(acme: House, signed_in: SignedIn) -> None:
    page = f"/admin/connections/tenant/{acme.tenant.pk}/change/"
    form = {"name": "acme", "retention_days": "30", "decision_hours": "24", "require_second_factor": "on"}
    assert signed_in(acme.admin).post(page, form).status_code == 302
    acme.tenant.refresh_from_db()
    assert acme.tenant.require_second_factor


@pytest.mark.parametrize("path", [HOME, "/admin/connections/connection/", "/admin/tools/call/", "/admin/tools/"])
def test_a_member_of_such_an_organization_sets_one_up_before_anything_else(
    acme: House, strict: Tenant, signed_in: SignedIn, path: str
) -> None:
    acme.connection("Orders")
    browser = signed_in(acme.admin)
    answer = browser.get(path, follow=True)
    assert answer.redirect_chain == [("/account/", 302)]
    page = answer.content.decode()
    assert "Your organization requires" in page
    assert "Orders" not in page
    assert browser.post("/admin/connections/connection/add/", {"name": "x"})["Location"] == "/account/"
    set_up(browser)
    assert browser.get(path).status_code == 200


def test_it_is_required_of_nobody_else(acme: House, rival: House, strict: Tenant, signed_in: SignedIn) -> None:
    assert is_in(signed_in(rival.admin))


def test_leaving_stays_possible(acme: House, strict: Tenant, signed_in: SignedIn) -> None:
    browser = signed_in(acme.member)
    assert browser.post("/admin/logout/").status_code in {200, 302}
    assert heading(browser.get("/admin/login/").content) == "Sign in"

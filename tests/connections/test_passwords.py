"""Passwords cannot be tried for ever, and trying them stops nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.test import Client

from connections import logins, passwords, throttle
from connections.errors import TooBusy
from connections.models import AuditEvent, User
from connections.throttle import Bucket
from tests.conftest import PASSWORD, House
from tests.tries import forget

pytestmark = pytest.mark.smoke

SignedIn = Callable[[User | None], Client]
NEW = "another horse battery staple"


@pytest.fixture(autouse=True)
def _no_tries_yet(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Buckets of the tests before are full again; those of this one hardly fill up, however slow the machine is."""
    for name in ("OF_BOTH", "OF_ADDRESS", "OF_ACCOUNT", "OF_BROWSER", "OF_SIGN_INS", "OF_PERSON"):
        monkeypatch.setattr(passwords, name, (getattr(passwords, name)[0], 1 / 1000))

    address = settings.REDIS_URL  # the test may name another
    forget(address)
    yield
    forget(address)


def enter(name: str, password: str, *, address: str = "198.51.100.7", browser: Client | None = None) -> Any:
    return (browser or Client()).post(
        "/admin/login/", {"username": name, "password": password, "next": "/admin/"}, REMOTE_ADDR=address
    )


def words(answer: Any) -> str:
    return str(answer.context["form"].non_field_errors().as_text())


def tries(name: str, *, address: str = "198.51.100.7", most: int = 40) -> int:
    """How many wrong passwords are looked at before somebody has to wait."""
    for number in range(most):
        if enter(name, "wrong", address=address).status_code == 429:
            return number
    return most


def test_after_five_wrong_passwords_even_the_right_one_has_to_wait(acme: House) -> None:
    assert tries(acme.admin.username) == 5
    refused = enter(acme.admin.username, PASSWORD)
    assert refused.status_code == 429
    assert 1 <= int(refused["Retry-After"]) <= 1000
    assert f"Try again in {refused['Retry-After']} second" in refused.content.decode()


def test_a_name_that_nobody_has_is_answered_as_one_that_somebody_has(acme: House) -> None:
    known, unknown = enter(acme.admin.username, "wrong"), enter("nobody", "wrong")
    assert words(known) == words(unknown) != ""
    assert tries("nobody") + 1 == tries(acme.admin.username) + 1 == 5


def test_who_may_no_longer_sign_in_hears_the_same_with_the_right_password(acme: House) -> None:
    User.objects.filter(pk=acme.member.pk).update(is_active=False)
    right, wrong = enter(acme.member.username, PASSWORD), enter(acme.member.username, "wrong")
    assert words(right) == words(wrong) != ""


@pytest.mark.parametrize("spelling", ["ADMIN@acme.example", " admin@acme.example ", "ａdmin@acme.example"])
def test_another_spelling_of_the_same_name_gives_no_more_tries(acme: House, spelling: str) -> None:
    assert tries(acme.admin.username) == 5
    assert enter(spelling, PASSWORD).status_code == 429


def test_who_knows_the_password_may_not_have_it_hashed_for_ever(
    rival: House, acme: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "OF_SIGN_INS", (8, 1 / 1000))
    theirs = Client()
    statuses = [enter(rival.admin.username, PASSWORD, browser=theirs).status_code for _ in range(10)]
    assert statuses == [302] * 8 + [429] * 2
    assert enter(rival.admin.username, PASSWORD, address="203.0.113.9").status_code == 429, "from wherever"
    assert enter(acme.admin.username, PASSWORD).status_code == 302


def test_strangers_who_try_wrong_passwords_use_up_no_sign_ins(acme: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "OF_SIGN_INS", (3, 1 / 1000))
    for number in range(10):
        assert enter(acme.admin.username, "wrong", address=f"203.0.113.{number}").status_code == 200
    assert enter(acme.admin.username, PASSWORD).status_code == 302


def test_one_address_cannot_try_one_password_on_many_names(acme: House) -> None:
    statuses = [enter(f"person{number}", "Summer2026").status_code for number in range(25)]
    assert statuses == [200] * 20 + [429] * 5
    assert enter("person99", "Summer2026", address="198.51.100.8").status_code == 200


def test_many_addresses_of_one_network_are_one_stranger(acme: House) -> None:
    addresses = [f"2001:db8::{number:x}" for number in range(1, 8)]
    statuses = [enter(acme.admin.username, "wrong", address=address).status_code for address in addresses]
    assert statuses == [200] * 5 + [429] * 2


def test_an_address_that_a_stranger_writes_into_a_header_is_not_believed(acme: House) -> None:
    for number in range(5):
        Client().post(
            "/admin/login/", {"username": acme.admin.username, "password": "wrong"},
            headers={"X-Forwarded-For": f"203.0.113.{number}"},
        )  # fmt: skip
    refused = Client().post(
        "/admin/login/", {"username": acme.admin.username, "password": PASSWORD},
        headers={"X-Forwarded-For": "203.0.113.99"},
    )  # fmt: skip
    assert refused.status_code == 429


def test_strangers_from_everywhere_do_not_keep_an_admin_out_of_a_browser_they_have_used(acme: House) -> None:
    mine = Client()
    assert enter(acme.admin.username, PASSWORD, browser=mine).status_code == 302
    mine.post("/admin/logout/")
    for number in range(40):
        enter(acme.admin.username, "wrong", address=f"203.0.113.{number}")
    assert enter(acme.admin.username, PASSWORD, address="203.0.113.200").status_code == 429
    assert enter(acme.admin.username, PASSWORD, browser=mine).status_code == 302


def test_a_browser_that_one_person_has_used_has_no_tries_more_for_another(acme: House) -> None:
    mine = Client()
    enter(acme.member.username, PASSWORD, browser=mine)
    statuses = [enter(acme.admin.username, "wrong", browser=mine).status_code for _ in range(6)]
    assert statuses[-1] == 429


def test_without_redis_each_process_counts_by_itself(
    acme: House, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_silent_until", 0.0)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert tries(acme.admin.username) == 5
    assert enter(acme.admin.username, PASSWORD).status_code == 429
    monkeypatch.setattr(throttle, "_silent_until", 0.0)


def test_the_old_password_cannot_be_tried_for_ever_by_who_found_an_open_browser(
    acme: House, signed_in: SignedIn
) -> None:
    browser = signed_in(acme.admin)
    form = {"old_password": "wrong", "new_password1": NEW, "new_password2": NEW}
    statuses = [browser.post("/admin/password_change/", form).status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    assert browser.post("/admin/password_change/", form | {"old_password": PASSWORD}).status_code == 429


# --- what is written down ---


def events(*actions: str) -> list[tuple[str, str, str, str]]:
    rows = AuditEvent.objects.filter(action__in=actions).order_by("at", "id")
    return [(row.actor, row.action, row.object_label, row.outcome) for row in rows]


def test_who_signs_in_and_out_and_who_cannot_is_written_down(acme: House, rival: House) -> None:
    name = acme.admin.username
    browser = Client()
    enter(name, "hunter2-wrong")
    enter(name, PASSWORD, browser=browser)
    browser.post("/admin/logout/", REMOTE_ADDR="198.51.100.7")
    assert events("user.sign_in_failed", "user.signed_in", "user.signed_out") == [
        ("nobody", "user.sign_in_failed", name, "refused"),
        (name, "user.signed_in", name, "ok"),
        (name, "user.signed_out", name, "ok"),
    ]
    rows = AuditEvent.objects.all()
    assert {row.data["address"] for row in rows} == {"198.51.100.7"}
    assert {row.tenant_id for row in rows} == {acme.tenant.pk}  # its admins see it, rival's do not
    assert "hunter2" not in str([vars(row) for row in rows])


def test_a_password_that_is_typed_as_a_name_is_not_kept(acme: House) -> None:
    enter(PASSWORD, "")
    enter(PASSWORD, "x")
    (event,) = AuditEvent.objects.all()
    assert (event.object_label, event.outcome, event.tenant) == ("unknown account", "unknown_account", None)
    assert PASSWORD not in str(vars(event))


def test_who_goes_on_trying_does_not_fill_the_audit_trail(acme: House) -> None:
    for _ in range(30):
        enter(acme.admin.username, "wrong")
    assert [event[1] for event in events("user.sign_in_failed", "user.sign_in_paused")] == [
        *["user.sign_in_failed"] * 5, "user.sign_in_paused",
    ]  # fmt: skip


def test_who_tries_names_that_nobody_has_hides_nothing_of_what_is_tried_next(
    acme: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "_RECORDED_OF_UNKNOWN", Bucket("written-failures", 5, 1 / 1000))
    for number in range(10):
        enter(f"person{number}", "wrong", address=f"203.0.113.{number}")
    enter(acme.admin.username, "wrong")
    written = [event[2] for event in events("user.sign_in_failed")]
    assert written == ["unknown account"] * 5 + [acme.admin.username]


def test_a_changed_password_is_written_down_with_who_changed_it(
    acme: House, superuser: User, signed_in: SignedIn
) -> None:
    form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    browser = signed_in(acme.admin)
    browser.post("/admin/password_change/", form | {"old_password": "wrong"})
    browser.post("/admin/password_change/", form)
    page = f"/admin/connections/user/{acme.member.pk}/password/"
    reset = {"password1": NEW, "password2": NEW, "usable_password": "true"}
    assert signed_in(superuser).post(page, reset).status_code == 302
    assert events("user.password_change_failed", "user.password_changed") == [
        (acme.admin.username, "user.password_change_failed", acme.admin.username, "refused"),
        (acme.admin.username, "user.password_changed", acme.admin.username, "ok"),
        (superuser.username, "user.password_changed", acme.member.username, "ok"),
    ]


# --- what it costs ---


def test_one_password_is_hashed_at_a_time_and_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most, lock, go = 0, 0, threading.Lock(), threading.Event()

    def slow(password: str, salt: str, iterations: int | None) -> str:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        go.wait(30)
        with lock:
            at_once -= 1
        return password

    turns = passwords._Turns()

    def visit(number: int) -> str:
        try:
            return turns.take(slow, str(number), "", None)
        except TooBusy:
            go.set()  # the last that finds no room lets the others go on
            return "busy"

    with ThreadPoolExecutor(passwords.MOST_WAITING + 1) as visitors:
        answers = list(visitors.map(visit, range(passwords.MOST_WAITING + 1)))
    assert answers.count("busy") == 1
    assert most == 1


def test_every_door_hashes_in_turn_and_old_hashes_still_fit(acme: House, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["connections.passwords.Hasher"]
    stock = PBKDF2PasswordHasher().encode("x", "salt", 1000)
    assert passwords.Hasher().verify("x", stock)
    assert make_password(PASSWORD).startswith("pbkdf2_sha256$")


def test_when_too_many_sign_in_at_once_the_next_hears_when_to_come_back(
    acme: House, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PASSWORD_HASHERS = ["connections.passwords.Hasher"]
    monkeypatch.setattr(passwords._turns, "_waiting", threading.BoundedSemaphore(1))
    passwords._turns._waiting.acquire()
    answer = enter("nobody", "wrong")
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")

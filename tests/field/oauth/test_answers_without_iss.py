"""Servers that promise `iss` and leave it out of errors: what they say is told, and a code without it stays refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from connections.models import AuditEvent, User
from oauth.models import Registration, SignIn
from tests.oauth.conftest import StartScene
from tests.oauth.test_callback import changed, refused
from tests.servers.authorization.server import approve


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("access_denied", "The access was not allowed at the provider"),
        ("invalid_scope", "does not know a scope that was asked for"),
        ("temporarily_unavailable", "The provider is overloaded"),
        ("login_required", "wants you to sign in there first"),
        ("a_word_of_its_own", "refused with the error “a_word_of_its_own”"),
    ],
)
@pytest.mark.parametrize("iss", [None, ""], ids=["left out", "empty"])
def test_an_error_without_iss_is_told(scene: StartScene, error: str, sentence: str, iss: str | None) -> None:
    scene = scene(iss="absent_but_advertised")
    callback = changed(approve(scene.depart()), code=None, error=error, iss=iss)
    refused(scene, scene.come_back(callback), sentence)
    assert AuditEvent.objects.filter(action="connection.sign_in_failed", data__error=error).exists()


def test_a_no_of_the_person_is_a_no_also_without_iss(scene: StartScene) -> None:
    scene = scene(iss="absent_but_advertised", deny=True)
    refused(scene, scene.sign_in(), "The access was not allowed at the provider")


@pytest.mark.parametrize(
    ("error", "no"),
    [
        ("user_cancelled_login", True), ("user_cancelled_authorize", True), ("user_denied", True),
        ("user_canceled_request", True), ("cancelled", True), ("consent_denied", True), ("Access Denied", True),
        ("ACCESS_DENIED", True), ("access_denied ", True), ("access-denied", True), ("userCancelled", True),
        ("authorization_declined", True), ("login_cancelled", True), ("UserDeclinedConsent", True),
        ("application_suspended", False), ("admin_denied", False), ("client_rejected", False), ("token_denied", False),
        ("user_not_found", False), ("denied: call 0900 12345", False),
    ],
)  # fmt: skip
def test_a_no_of_the_person_is_read_in_the_words_of_any_provider(scene: StartScene, error: str, no: bool) -> None:
    scene = scene()
    page = scene.come_back(changed(approve(scene.depart()), code=None, error=error)).content.decode()
    assert ("The access was not allowed at the provider. Sign in again and allow it." in page) == no
    assert "0900" not in page


def test_an_error_without_iss_leaves_the_sign_in_and_the_registration_alone(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    before = scene.sign_in_row
    forged = changed(approve(scene.depart()), code=None, error="invalid_client", iss=None)
    assert scene.come_back(forged).status_code == 400
    assert scene.sign_in_row.tokens() == before.tokens()
    assert Registration.objects.get().retired_at is None
    assert scene.state == ("ready", "")


@pytest.mark.parametrize("brought", [{"iss": None}, {"iss": ""}, {"iss": None, "error": "access_denied"}])
def test_a_code_without_the_promised_iss_stays_refused(scene: StartScene, brought: dict[str, str | None]) -> None:
    scene = scene()
    callback = approve(scene.depart())
    refused(scene, scene.come_back(changed(callback, **brought)), "does not name its sender (iss)")
    assert scene.come_back(callback).status_code == 302


def test_an_error_with_anothers_iss_stays_refused(scene: StartScene) -> None:
    scene = scene(iss="absent_but_advertised")
    forged = changed(approve(scene.depart()), code=None, error="pay_the_attacker", iss=f"{scene.auth.issuer}/")
    answer = scene.come_back(forged)
    refused(scene, answer, "from another sign-in server")
    assert "pay_the_attacker" not in answer.content.decode()


def test_an_error_without_iss_needs_the_state_and_the_browser(
    scene: StartScene, signed_in: Callable[[User | None], Client]
) -> None:
    scene = scene(iss="absent_but_advertised")
    callback = changed(approve(scene.depart()), code=None, error="access_denied")
    refused(scene, scene.come_back(changed(callback, state="made up")), "was not started here")
    refused(scene, scene.come_back(callback, signed_in(scene.house.admin)), "in another browser")
    assert not SignIn.objects.exists()

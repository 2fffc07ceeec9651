"""Mails of notices over real SMTP: who cannot be reached stops nobody, and nobody gets the same mail twice."""

from __future__ import annotations

import pytest
from django.utils import timezone

from connections.models import Notice, User
from tests.conftest import PASSWORD
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_notices import deliver, dies
from tests.servers.mail import MailServer

A, B, C = "admin@acme.example", "b@acme.example", "c@acme.example"


@pytest.fixture
def dead(scene: StartScene) -> Scene:
    """A dead sign-in of an organization with three admins."""
    scene = scene()
    for address in (B, C):
        person = User.objects.create_user(address, address, PASSWORD)
        scene.house.tenant.memberships.create(user=person, role="admin")
    scene.sign_in()
    dies(scene)
    return scene


def deliver_again() -> None:
    Notice.objects.update(deliver_at=timezone.now())
    deliver()


def test_every_admin_gets_a_mail_of_their_own(dead: Scene, mail_server: MailServer) -> None:
    deliver()
    assert mail_server.readers == [A, B, C]
    for address, message in mail_server.taken:
        assert (message["To"], message["Cc"], message["Auto-Submitted"]) == (address, None, "auto-generated")
        assert message["Subject"] == "Orders (acme): the sign-in has ended"
        assert message.get_content_type() == "text/plain"
        assert "You get this mail because you are an admin of acme." in message.get_content()


def test_an_address_that_is_refused_for_good_is_not_tried_again(dead: Scene, mail_server: MailServer) -> None:
    mail_server.refusals[B] = b"550 No such user"
    deliver()
    assert mail_server.readers == [A, C]
    notice = Notice.objects.get()
    assert (notice.deliver_at, notice.trouble) == (None, "")


def test_an_address_that_is_refused_for_now_is_tried_again_and_nobody_else(
    dead: Scene, mail_server: MailServer
) -> None:
    mail_server.refusals[B] = b"450 Mailbox busy"
    deliver()
    assert mail_server.readers == [A, C]
    assert Notice.objects.get().trouble == "The mail server did not take the mail to 1 of 3 people."
    mail_server.refusals.clear()
    deliver_again()
    assert mail_server.readers == [A, C, B]
    assert Notice.objects.get().emailed_at is not None

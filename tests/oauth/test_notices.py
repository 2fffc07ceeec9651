"""Before a sign-in ends, and when it has died, those who can do something about it are told: once, and nobody else."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from connections.models import AuditEvent, Notice, User
from connections.notices import delivering, notices
from connections.tasks import deliver_notice
from oauth import refreshing, tasks
from oauth.models import SignIn
from tests.conftest import PASSWORD, House
from tests.oauth.conftest import Scene, StartScene


def attend(scene: Scene) -> None:
    refreshing.attend(scene.sign_in_row.pk)


def deliver() -> None:
    """Do what beat and a worker do."""
    for notice_id in notices.due(timezone.now()):
        deliver_notice(notice_id=str(notice_id))


def dies(scene: Scene) -> None:
    scene.auth.revoke_everything()
    attend(scene)


def told() -> list[tuple[str, bool]]:
    """Every notice: why, and whether it is still true."""
    return [(row.reason, row.resolved_at is None) for row in Notice.objects.order_by("created_at")]


def readers() -> list[str]:
    return sorted(address for message in mail.outbox for address in message.to)


def test_the_admins_are_warned_once_before_a_sign_in_ends(scene: StartScene, rival: House) -> None:
    scene = scene(refresh=False)
    second = User.objects.create_user("second@acme.example", "second@acme.example", PASSWORD)
    scene.house.tenant.memberships.create(user=second, role="admin")
    scene.sign_in()
    assert told() == []
    row = scene.sign_in_row
    assert row.renew_at < row.expires_at
    attend(scene)
    deliver()
    assert told() == [("sign_in_ends", True)]
    assert readers() == ["admin@acme.example", "second@acme.example"]
    [message, _] = mail.outbox
    ends = f"{row.expires_at:%Y-%m-%d %H:%M} UTC"
    assert message.subject == f"Orders (acme): the sign-in ends at {ends}"
    assert f"Ends: {ends}" in message.body
    assert "What to do: Press Sign in again before it ends" in message.body
    assert f"/admin/connections/connection/{scene.connection.pk}/change/" in message.body
    attend(scene)
    deliver()
    assert (len(told()), len(mail.outbox)) == (1, 2)
    assert AuditEvent.objects.filter(action="connection.notice", outcome="sign_in_ends").count() == 1


def test_the_end_is_told_after_the_warning_and_takes_its_place(scene: StartScene) -> None:
    scene = scene(refresh=False)
    scene.sign_in()
    attend(scene)
    SignIn.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    attend(scene)
    deliver()
    assert told() == [("sign_in_ends", False), ("sign_in_ended", True)]
    assert [message.subject for message in mail.outbox] == ["Orders (acme): the sign-in has ended"]


def test_a_dead_sign_in_is_told_once(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    dies(scene)
    deliver()
    attend(scene)
    scene.probe()
    deliver()
    assert told() == [("sign_in_revoked", True)]
    assert readers() == ["admin@acme.example"]
    assert "The provider no longer accepts the sign-in." in mail.outbox[0].body


def test_a_sign_in_that_is_made_again_is_well_until_it_dies_again(scene: StartScene) -> None:
    scene = scene()
    for deaths in (1, 2):
        scene.sign_in()
        assert not Notice.objects.open().exists()
        dies(scene)
        deliver()
        assert (Notice.objects.count(), len(mail.outbox)) == (deaths, deaths)
    scene.press("sign-out")
    assert told() == [("sign_in_revoked", False), ("sign_in_revoked", False)]


def test_a_renewal_that_fails_twice_is_told_and_taken_back_when_it_works(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    scene.auth.fail_tokens_with(503)
    attend(scene)
    assert told() == []
    for _ in range(2):
        SignIn.objects.update(not_before=None)
        attend(scene)
    assert told() == [("refresh_failing", True)]
    deliver()
    assert mail.outbox == []  # it may be over in a moment
    Notice.objects.update(deliver_at=timezone.now())
    deliver()
    assert "keep trying" in mail.outbox[0].body
    scene.auth.fail_tokens_with(200)
    SignIn.objects.update(not_before=None)
    attend(scene)
    assert told() == [("refresh_failing", False)]


def test_a_failing_renewal_is_told_after_five_minutes_but_before_the_token_ends() -> None:
    now = timezone.now()

    def waits(reason: str, minutes: float | None) -> timedelta:
        until = None if minutes is None else now + timedelta(minutes=minutes)
        return notices.deliver_at(reason, until, now) - now

    assert waits("refresh_failing", 60) == timedelta(minutes=5)
    assert waits("refresh_failing", 6) == timedelta(minutes=3)
    assert waits("refresh_failing", 1) == timedelta(0)
    assert waits("refresh_failing", None) == timedelta(0)
    assert waits("sign_in_revoked", None) == timedelta(0)


def test_the_same_sign_in_that_falls_ill_again_soon_is_not_told_anew(scene: StartScene) -> None:
    from oauth import feedback

    scene = scene()
    scene.sign_in()
    for _ in range(3):
        feedback.refused(scene.sign_in_row.pk)
        deliver()
        feedback.accepted(scene.sign_in_row.pk)
        assert told() == [("token_refused", False)]
    assert len(mail.outbox) == 1
    Notice.objects.update(resolved_at=timezone.now() - timedelta(days=1))
    feedback.refused(scene.sign_in_row.pk)
    deliver()
    assert len(mail.outbox) == 2


def test_what_got_well_before_anybody_heard_of_it_is_not_sent(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    dies(scene)
    scene.sign_in()
    deliver()
    assert mail.outbox == []


def test_a_missing_permission_is_told_without_what_the_server_said(scene: StartScene) -> None:
    from oauth import feedback

    scene = scene()
    scene.sign_in()
    feedback.scopes_missing(scene.sign_in_row.pk, "https://evil.example/click-here")
    deliver()
    assert told() == [("insufficient_scope", True)]
    assert "evil.example" not in str(mail.outbox[0].message())
    scene.sign_in()
    assert "evil.example" not in str(list(Notice.objects.values()))


def test_a_members_own_sign_in_is_told_to_the_member_and_to_the_admins(scene: StartScene, signed_in: Any) -> None:
    from tests.servers.authorization.server import approve

    scene = scene(connection={"sharing": "personal"})
    member = signed_in(scene.house.member)
    scene.come_back(approve(scene.press("sign-in", member)["Location"]), member)
    dies(scene)
    deliver()
    assert readers() == ["admin@acme.example", "member@acme.example"]
    theirs = {message.to[0]: message.body for message in mail.outbox}
    assert "it is your own sign-in" in theirs["member@acme.example"]
    assert "Sign-in: member@acme.example" in theirs["admin@acme.example"]


def test_a_member_who_has_left_is_told_nothing(scene: StartScene, signed_in: Any) -> None:
    from tests.servers.authorization.server import approve

    scene = scene(connection={"sharing": "personal"})
    member = signed_in(scene.house.member)
    scene.come_back(approve(scene.press("sign-in", member)["Location"]), member)
    scene.house.membership(scene.house.member).delete()
    dies(scene)
    assert told() == []


def test_names_cannot_add_headers_to_a_mail(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    scene.house.tenant.name = "acme\r\nBcc: rival@rival.example\u202e"
    scene.house.tenant.save()
    dies(scene)
    deliver()
    [message] = mail.outbox
    assert message.subject == "Orders (acme Bcc: rival@rival.example): the sign-in has ended"
    assert message.recipients() == ["admin@acme.example"]
    assert message.message()["Bcc"] is None


def test_an_address_that_cannot_work_does_not_stop_the_others(scene: StartScene) -> None:
    scene = scene()
    for number, address in enumerate(["no address\nat all", "b@acme.example", ""]):
        person = User.objects.create_user(f"{number}", PASSWORD)
        User.objects.filter(pk=person.pk).update(email=address)
        scene.house.tenant.memberships.create(user=person, role="admin")
    User.objects.filter(pk=scene.house.admin.pk).update(is_active=True)
    scene.sign_in()
    dies(scene)
    deliver()
    assert readers() == ["admin@acme.example", "b@acme.example"]
    assert Notice.objects.get().emailed_at is not None
    assert notices.due(timezone.now() + timedelta(days=1)) == []


def test_without_a_mail_server_nobody_is_said_to_be_mailed(scene: StartScene, settings: Any) -> None:
    settings.EMAIL_BACKEND = settings.NO_MAIL
    scene = scene()
    scene.sign_in()
    dies(scene)
    deliver()
    notice = Notice.objects.get()
    assert (notice.emailed_at, notice.deliver_at, notice.trouble) == (None, None, "")


def test_a_mail_server_that_is_down_is_tried_eight_times_over_a_day(scene: StartScene, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9  # nothing listens there
    settings.EMAIL_USE_TLS = False
    scene = scene()
    scene.sign_in()
    dies(scene)
    pauses = []
    for tries in range(1, delivering.MOST_TRIES + 1):
        deliver()
        notice = Notice.objects.get()
        assert (notice.attempts, notice.trouble) == (tries, "The mail server cannot be reached.")
        if notice.deliver_at:
            pauses.append(notice.deliver_at - timezone.now())
            Notice.objects.update(deliver_at=timezone.now())
    assert notice.deliver_at is None
    assert pauses == sorted(pauses)
    assert timedelta(hours=20) < sum(pauses, timedelta()) < timedelta(hours=28)
    assert AuditEvent.objects.filter(action="connection.notice_not_delivered").count() == 1


def test_two_workers_send_one_mail(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    dies(scene)
    notice = Notice.objects.get()
    now = timezone.now()
    assert notice.claim(now, now + timedelta(minutes=5))
    deliver_notice(notice_id=str(notice.pk))
    assert mail.outbox == []
    Notice.objects.update(deliver_at=now)  # the first one died, its time is over
    deliver_notice(notice_id=str(notice.pk))
    assert len(mail.outbox) == 1


def test_resolved_notices_are_kept_for_ninety_days(scene: StartScene) -> None:
    scene = scene()
    scene.sign_in()
    dies(scene)
    tasks.forget_old()
    assert Notice.objects.count() == 1
    Notice.objects.resolve(timezone.now() - timedelta(days=91))
    tasks.forget_old()
    assert Notice.objects.count() == 0


def test_no_secret_is_in_a_notice_a_mail_an_audit_event_or_a_log(
    scene: StartScene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scene = scene()
    scene.sign_in()
    tokens = scene.sign_in_row.tokens()
    dies(scene)
    deliver()
    said = [*(str(message.message()) for message in mail.outbox), caplog.text]
    said += [str(list(model.objects.values())) for model in (Notice, AuditEvent)]
    for secret in (tokens.access_token, tokens.refresh_token):
        assert not [text for text in said if secret in text]
    assert not [text for text in said[:1] if "secret detail" in text]

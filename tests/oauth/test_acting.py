"""In whose name: nobody but the owner of an assignment, or whom the owner trusts, acts through the owner's sign-ins."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Connection, Membership, Notice, User
from oauth import revoking, tasks
from oauth.models import SignIn
from tests.conftest import PASSWORD, ActIn, House
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tools import callers
from tools.calls import life, offers, owner_mail
from tools.models import AccessToken, Assignment, Call, Consent, OwnerNotice, Tool

SignedIn = Callable[[User | None], Client]
AT_ONCE = {"Prefer": "wait=10"}


class Office:
    """Acme's admin has signed in to a personal connection and owns an assignment; a colleague is an admin, too."""

    def __init__(self, scene: Scene, api: Api, signed_in: SignedIn) -> None:
        self.scene, self.house, self.api = scene, scene.house, api
        self.owner, self.signed_in = scene.client, signed_in
        scene.sign_in()
        scene.probe()
        self.colleague_user = User.objects.create_user("bob@acme.example", "bob@acme.example", PASSWORD)
        Membership.objects.create(user=self.colleague_user, tenant=self.house.tenant, role="admin")
        self.colleague = signed_in(self.colleague_user)
        self.assignment = self.house.assignment()
        self.page = f"/admin/tools/assignment/{self.assignment.pk}"

    def issue(self, client: Client) -> str | None:
        """Press "Make a token" and return it, if one was made."""
        answer = client.post(f"{self.page}/tokens/", {"label": "x"})
        found = re.search(r"duvo_[\w-]{43}", answer.content.decode())
        return found.group() if found else None

    def edit(self, client: Client, **data: Any) -> bool:
        before = Assignment.objects.get(pk=self.assignment.pk)
        form = {"name": before.name, "instructions": before.instructions, "enabled": "on", "scope": before.scope}
        return client.post(f"{self.page}/change/", {**form, **data}).status_code == 302

    def consent(self) -> None:
        bob = str(self.house.membership(self.colleague_user).pk)
        assert self.owner.post(f"{self.page}/consent/", {"person": bob}).status_code == 302
        assert Consent.objects.count() == 1

    def withdraw(self) -> None:
        self.owner.post(f"{self.page}/withdraw/", {"consent": str(Consent.objects.get().pk)})
        assert not Consent.objects.exists()

    def acts(self, token: str | None) -> bool:
        """Whether a call with this token reaches the server with the owner's sign-in; if not, nothing reaches it."""
        callers.principals.clear()
        offers.forget()
        before = self.scene.server.count("tools/call")
        answer = self.api.as_(token).call("orders__echo", {"text": "x"}, headers=AT_ONCE)
        made = self.scene.server.count("tools/call") - before
        assert (answer.status_code == 200) == (made == 1), answer.text
        return made == 1


@pytest.fixture
def office(scene: StartScene, api: Api, signed_in: SignedIn) -> Office:
    return Office(scene(connection={"sharing": "personal"}), api, signed_in)


def test_only_the_owner_issues_tokens_that_act_as_the_owner(office: Office, act_in: ActIn) -> None:
    assert office.issue(office.colleague) is None
    assert office.issue(act_in(office.house.tenant)) is None
    assert not AccessToken.objects.exists()
    assert "only admin@acme.example may do this" in office.colleague.get(f"{office.page}/change/").content.decode()
    assert office.acts(office.issue(office.owner))


@pytest.mark.parametrize(
    "edit",
    [{"instructions": "Send me all mail."}, {"name": "Other"}, {"scope": "chosen"}],
    ids=["instructions", "name", "tools"],
)
def test_only_the_owner_edits_what_is_done_in_the_owners_name(
    office: Office, act_in: ActIn, edit: dict[str, str]
) -> None:
    for client in (office.colleague, act_in(office.house.tenant)):
        assert not office.edit(client, **edit)
    before = Assignment.objects.get()
    assert (before.name, before.instructions, before.scope) == ("Nightly orders", "", "all")
    assert office.edit(office.owner, **edit)


def test_others_may_take_away_and_not_give_back(office: Office) -> None:
    token = office.issue(office.owner)
    assert office.edit(office.colleague, max_rate="5")
    assert office.colleague.post(
        f"{office.page}/change/", {"name": "Nightly orders", "scope": "all", "max_rate": "5"}
    ).status_code == 302  # fmt: skip
    assert not Assignment.objects.get().enabled
    assert not office.edit(office.colleague), "enabling it again is the owner's"
    assert office.edit(office.owner)
    row = AccessToken.objects.get()
    office.colleague.post(f"{office.page}/tokens/{row.pk}/revoke/")
    assert office.api.as_(token).call("orders__echo", {"text": "x"}).status_code in {200, 401}
    row.refresh_from_db()
    assert row.revoked_at is not None
    assert office.colleague.post(f"{office.page}/delete/", {"post": "yes"}).status_code == 302


def test_a_personal_tool_is_not_added_to_the_assignment_of_somebody_else(office: Office) -> None:
    office.edit(office.owner, scope="chosen")
    personal = str(Tool.objects.get(name="echo").pk)
    assert office.edit(office.colleague, instructions="Reaches nobody's sign-in."), "so anybody may edit it"
    assert not office.edit(office.colleague, scope="chosen", tools=[personal])
    assert not office.edit(office.colleague, scope="all")
    assert not Assignment.objects.get().tools.exists()


@pytest.mark.parametrize("change", [{"sharing": "shared"}, {"authorization": "none"}])
def test_to_switch_a_connection_away_and_back_opens_no_gap(office: Office, change: dict[str, str]) -> None:
    Connection.objects.update(**change)
    assert not office.edit(office.colleague, instructions="Send me all mail.")
    assert office.issue(office.colleague) is None
    revoking.prune(Connection.objects.get())
    assert office.edit(office.colleague, instructions="Nobody is signed in any more.")


def test_a_token_of_another_does_not_act_once_the_connection_becomes_personal(office: Office) -> None:
    Connection.objects.update(sharing="shared")
    others = AccessToken.issue(assignment=office.assignment, by=office.colleague_user)[1]
    own = office.issue(office.owner)
    Connection.objects.update(sharing="personal")
    assert not office.acts(others)
    assert office.acts(own)
    answer = office.api.as_(others).call("orders__echo", {"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (403, "acting_refused")


def test_a_queued_call_of_another_does_not_act_either(office: Office) -> None:
    Connection.objects.update(sharing="shared")
    others = AccessToken.issue(assignment=office.assignment, by=office.colleague_user)[1]
    answer = office.api.as_(others).call("orders__echo", {"text": "x"}, headers={"Prefer": "respond-async"})
    if answer.status_code != 202:  # nobody is signed in for the organization: put it there as it would be
        token = AccessToken.objects.get()
        tool = Tool.objects.get(name="echo")
        Call.objects.create(
            tenant=office.house.tenant, assignment=office.assignment, token=token, tool=tool,
            connection=office.scene.connection, tool_name=tool.public_name, sealed_arguments="x",
            tool_digest=tool.approved_digest, server_url=office.scene.connection.server_url,
        )  # fmt: skip
    Connection.objects.update(sharing="personal")
    call, before = Call.objects.get(), office.scene.server.count("tools/call")
    life.resume(call.pk)
    call.refresh_from_db()
    assert (call.state, call.error_code) == ("failed", "acting_refused")
    assert office.scene.server.count("tools/call") == before


def test_with_the_owners_consent_a_colleague_acts_and_the_owner_is_told_each_time(office: Office) -> None:
    office.consent()
    token = office.issue(office.colleague)
    assert office.acts(token)
    assert office.edit(office.colleague, instructions="Ship them at night.")
    sentences = list(OwnerNotice.objects.order_by("created_at").values_list("sentence", flat=True))
    assert "bob@acme.example issued the token duvo_" in sentences[0]
    assert "bob@acme.example changed instructions" in sentences[1]
    for notice_id in owner_mail.due(timezone.now()):
        owner_mail.deliver(notice_id)
        owner_mail.deliver(notice_id)
    assert [message.to for message in mail.outbox] == [["admin@acme.example"]] * 2
    assert "withdraw your consent" in mail.outbox[0].body
    assert "bob@acme.example issued the token" in office.owner.get("/admin/").content.decode()
    assert "bob@acme.example issued the token" not in office.colleague.get("/admin/").content.decode()
    office.owner.post(f"{office.page}/seen/")
    assert "bob@acme.example issued the token" not in office.owner.get("/admin/").content.decode()
    given = AuditEvent.objects.get(action="assignment.consent_given")
    assert (given.actor, given.data) == ("admin@acme.example", {"person": "bob@acme.example"})


def test_a_consent_ends_what_was_issued_under_it_and_does_not_revive_it(office: Office) -> None:
    office.consent()
    token = office.issue(office.colleague)
    office.withdraw()
    assert not office.acts(token)
    office.consent()
    assert not office.acts(token), "that was issued under another consent"
    assert office.acts(office.issue(office.colleague))


def test_nobody_consents_for_the_owner(office: Office, rival: House, act_in: ActIn) -> None:
    bob = str(office.house.membership(office.colleague_user).pk)
    people = [office.signed_in(user) for user in (office.colleague_user, office.house.member, rival.admin)]
    for client in (*people, act_in(office.house.tenant)):
        assert client.post(f"{office.page}/consent/", {"person": bob}).status_code in {403, 404}
    for person in (office.house.member, office.house.auditor, office.house.admin):  # only another admin is trusted
        office.owner.post(f"{office.page}/consent/", {"person": str(office.house.membership(person).pk)})
    office.owner.post(f"{office.page}/consent/", {"person": str(rival.membership(rival.admin).pk)})
    assert not Consent.objects.exists()


@pytest.mark.parametrize("who", ["owner", "colleague"])
def test_who_leaves_and_returns_does_not_find_the_old_rights(office: Office, who: str) -> None:
    office.consent()
    own, others = office.issue(office.owner), office.issue(office.colleague)
    user = office.house.admin if who == "owner" else office.colleague_user
    office.house.membership(user).delete()
    assert not office.acts(others)
    assert office.acts(own) == (who == "colleague")
    Membership.objects.create(user=user, tenant=office.house.tenant, role="admin")
    assert not office.acts(others)
    assert office.acts(own) == (who == "colleague")
    assert not Consent.objects.exists()


@pytest.mark.parametrize("end", ["auditor", "removed", "deactivated"])
def test_who_may_no_longer_act_is_acted_for_no_longer_at_once(office: Office, end: str) -> None:
    token = office.issue(office.owner)
    assert office.acts(token)
    membership = office.house.membership(office.house.admin)
    if end == "auditor":
        office.colleague.post(f"/admin/connections/membership/{membership.pk}/change/", {"role": "auditor"})
    elif end == "removed":
        office.colleague.post(f"/admin/connections/membership/{membership.pk}/delete/", {"post": "yes"})
    else:
        User.objects.filter(pk=office.house.admin.pk).update(is_active=False)
    assert not office.acts(token)
    for connection_id in revoking.abandoned():
        tasks.forget_abandoned(connection_id=str(connection_id))
    assert not SignIn.objects.exists()
    assert len(office.scene.auth.revoked) == 1, "the provider was told"
    page = office.colleague.get(f"{office.page}/change/").content.decode()
    assert "has left the organization" in page or "may no longer act" in page


def test_an_answer_that_acts_as_the_owner_is_the_owners(office: Office) -> None:
    token = AccessToken.objects.get(prefix=str(office.issue(office.owner))[:12])
    tool = Tool.objects.get(name="echo")
    call = Call(
        tenant=office.house.tenant, assignment=office.assignment, token=token, tool=tool,
        connection=office.scene.connection, tool_name=tool.public_name, state="input_required", asked_in="result",
        tool_digest=tool.approved_digest, server_url=office.scene.connection.server_url,
    )  # fmt: skip
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    asked = {"mode": "form", "message": "Whose?", "schema": schema, "url": None}
    call.sealed_question = call.seal({"requests": {"who": asked}, "state": "s"})
    call.sealed_arguments, call.waits_until = call.seal({"text": "x"}), timezone.now() + timedelta(hours=1)
    call.save()
    page = f"/admin/tools/call/{call.pk}"
    mark = office.colleague.get(f"{page}/change/").context["questions"]["mark"]
    said = {"mark": mark, "action": "accept", "question-1-field-0": "Bob"}
    answer = office.colleague.post(f"{page}/answer/", said, follow=True).content.decode()
    assert "only admin@acme.example may do this" in answer
    call.refresh_from_db()
    assert call.state == "input_required"
    office.owner.post(f"{page}/answer/", said)
    call.refresh_from_db()
    assert call.state == "queued"


# --- the organization's own sign-in ---------------------------------------------------------------------------------


def test_a_shared_sign_in_of_somebody_who_left_is_named_and_told(scene: StartScene, signed_in: SignedIn) -> None:
    scene = scene()
    scene.sign_in()
    scene.probe()
    bob = User.objects.create_user("bob@acme.example", "bob@acme.example", PASSWORD)
    Membership.objects.create(user=bob, tenant=scene.house.tenant, role="admin")
    scene.house.membership(scene.house.admin).delete()
    for _ in range(2):
        tasks.dispatch_renewals()
        for sign_in in SignIn.objects.all():
            tasks.tell_who_left(sign_in_id=str(sign_in.pk))
    notice = Notice.objects.get()
    assert (notice.reason, notice.resolved_at) == ("signer_left", None)
    assert scene.state == ("expiring", "signer_left")
    for path in ("/admin/", f"/admin/connections/connection/{scene.connection.pk}/change/"):
        page = signed_in(bob).get(path).content.decode()
        assert "Signed in by admin@acme.example, who has left." in page
        assert "Sign in again as somebody who stays" in page
    scene.client = signed_in(bob)
    scene.sign_in(again="1")
    assert scene.state == ("ready", "")
    notice.refresh_from_db()
    assert notice.resolved_at is not None


def test_a_sign_in_that_comes_back_after_the_connection_was_disabled_is_not_completed(scene: StartScene) -> None:
    from tests.servers.authorization.server import approve

    scene = scene()
    callback = approve(scene.depart())
    scene.client.post(
        "/admin/connections/connection/", {"action": "disable", "_selected_action": str(scene.connection.pk)}
    )
    answer = scene.come_back(callback)
    assert answer.status_code == 400
    assert "The connection is disabled." in answer.content.decode()
    assert (scene.auth.token_requests, SignIn.objects.count()) == ([], 0)


@pytest.mark.parametrize("end", ["disabled", "suspended"])
def test_nothing_is_renewed_after_the_end(scene: StartScene, end: str) -> None:
    from oauth import refreshing

    scene = scene()
    scene.sign_in()
    asked = len(scene.auth.token_requests)
    SignIn.objects.update(renew_at=timezone.now() - timedelta(minutes=1))
    late = refreshing.due(timezone.now())
    SignIn.objects.update(renew_at=timezone.now() - timedelta(minutes=1))
    if end == "disabled":
        Connection.objects.update(enabled=False)
    else:
        scene.house.tenant.suspend("Unpaid.")
    assert refreshing.due(timezone.now()) == []
    for sign_in_id in late:  # the message was on its way
        refreshing.attend(sign_in_id)
    assert len(scene.auth.token_requests) == asked
    assert SignIn.objects.get().ended_at is None, "nothing is lost"


def test_what_was_done_as_the_owner_is_read_and_answered_by_tokens_that_act_alone(office: Office) -> None:
    own = office.issue(office.owner)
    Connection.objects.update(sharing="shared")
    others = AccessToken.issue(assignment=office.assignment, by=office.colleague_user)[1]
    Connection.objects.update(sharing="personal")
    call = office.api.as_(own).call("orders__echo", {"text": "x"}, headers={"Idempotency-Key": "k"}).json()["id"]
    assert office.api.as_(own).get(f"/v1/calls/{call}").status_code == 200
    theirs = office.api.as_(others)
    asked = [
        theirs.get(f"/v1/calls/{call}"),
        theirs.get(f"/v1/calls/{call}/events"),
        theirs.post(f"/v1/calls/{call}/input", {"responses": {}}),
        theirs.post(f"/v1/calls/{call}/cancel"),
        theirs.get(f"/v1/calls/{call}/contents/0"),
        theirs.call("orders__echo", {"text": "x"}, headers={"Idempotency-Key": "k"}),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in asked} == {(403, "acting_refused")}

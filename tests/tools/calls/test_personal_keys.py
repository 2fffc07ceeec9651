"""Keys and headers that each member has their own: whose goes where, who is asked to connect, and what is forgotten."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from connections import personal
from connections.models import AuditEvent, Connection, Credential, Membership, User
from oauth import revoking, tasks
from tests.conftest import ActIn, House
from tests.live import Api
from tests.servers.kinds import answers, only_on, respond
from tests.servers.running import Incoming, McpServer, Receive, Send
from tools import callers
from tools.calls import offers
from tools.models import AccessToken, Assignment, Consent, McpSession, OwnerNotice

SignedIn = Callable[[User | None], Client]
ADA, BOB = "key-of-ada-5f1c", "key-of-bob-77aa"
AT_ONCE = {"Prefer": "wait=10"}


async def _wants_one_of_them(_: McpServer, request: Incoming, __: Receive, send: Send) -> bool:
    if request.headers.get("x-api-key") in {ADA, BOB}:
        return False
    return await respond(send, 401)


class Team:
    """Two people with an assignment each, and a connection at which everybody has a key of their own."""

    def __init__(self, house: House, server: McpServer, api: Api, signed_in: SignedIn, probed: Any) -> None:
        self.house, self.server, self.api, self.signed_in, self.probed = house, server, api, signed_in, probed
        server.rules.append(_wants_one_of_them)
        house.tenant.members_own = True
        house.tenant.save()
        self.row = house.connection(
            url=server.url, authorization="api_key", api_key_header="X-API-Key", sharing="personal"
        )
        self.ada, self.bob = house.admin, house.member
        self.of_ada = house.assignment("Of Ada")
        self.of_bob = Assignment.objects.create(tenant=house.tenant, name="Of Bob", owner=self.bob)

    @property
    def connection(self) -> Connection:
        self.row.refresh_from_db()
        return self.row

    def connect(self, user: User, key: str, **more: Any) -> Any:
        page = f"/admin/connections/connection/{self.row.pk}/connect/"
        data = {"revision": self.connection.revision, "api_key": key, **more}
        return self.signed_in(user).post(page, data, follow=True)

    def check(self) -> Any:
        return self.probed(self.row)

    def page(self, user: User) -> str:
        page = self.signed_in(user).get(f"/admin/connections/connection/{self.row.pk}/change/").content.decode()
        return " ".join(re.sub(r"<[^>]+>", " ", page).split())

    def call(self, assignment: Assignment) -> Any:
        callers.forget()
        offers.forget()
        token = AccessToken.issue(assignment=assignment, by=assignment.owner)[1]
        return self.api.as_(token).call("orders__echo", {"text": "x"}, headers=AT_ONCE)

    def sent(self) -> list[str]:
        """The keys of the calls that reached the server."""
        calls = [request for request in self.server.requests if request.rpc_method == "tools/call"]
        return [request.headers.get("x-api-key", "") for request in calls]


@pytest.fixture
def team(api: Api, acme: House, mcp_server: Any, signed_in: SignedIn, probed: Any) -> Team:
    return Team(acme, mcp_server("modern"), api, signed_in, probed)


def test_each_assignment_sends_its_owners_key(team: Team) -> None:
    assert "You are connected" in team.connect(team.ada, ADA).content.decode()
    assert team.check().outcome == "passed"
    assert team.call(team.of_ada).status_code == 200
    refused = team.call(team.of_bob)
    assert (refused.status_code, refused.json()["code"]) == (503, "credential_not_ready")
    assert "has not entered their own API key" in refused.json()["detail"]
    team.connect(team.bob, BOB)
    assert team.call(team.of_bob).status_code == 200
    assert team.call(team.of_ada).status_code == 200
    assert team.sent() == [ADA, BOB, ADA]


def test_what_was_entered_is_sealed_and_on_no_page(team: Team) -> None:
    team.connect(team.ada, ADA)
    row = Credential.objects.get()
    assert (row.owner, row.set_by) == (team.ada, team.ada)
    assert ADA not in row.sealed
    event = AuditEvent.objects.get(action="connection.own_credential_entered")
    assert (event.actor, event.data) == ("admin@acme.example", {"secrets": ["api_key set"]})
    again = team.connect(team.ada, "k e y", revision="x")
    for page in (team.page(team.ada), team.page(team.bob), again.content.decode()):
        assert ADA not in page
        assert "k e y" not in page


def test_the_headline_counts_the_assignments_that_can_act_and_names_whom_to_ask(team: Team) -> None:
    for name in ("Second", "Third"):
        team.house.assignment(name)
    personal.settle(team.connection)
    assert team.connection.headline == "action_required"
    assert "0 of 4 can use it: ask admin@acme.example and member@acme.example to connect." in team.page(team.ada)
    team.connect(team.bob, BOB)
    team.check()
    assert team.connection.headline == "connected"
    listed = team.signed_in(team.ada).get("/admin/connections/connection/").content.decode()
    assert "1 of 4 can use it: ask admin@acme.example to connect." in listed
    shown = team.api.as_(team.house.member_token(team.ada)).get(f"/v1/connections/{team.row.pk}").json()
    assert shown["credential"]["state"] == "ready"
    assert "1 of 4 can use it" in shown["credential"]["sentence"]
    team.connect(team.ada, ADA)
    assert "All 4 assignments can use it." in team.connection.credential_sentence
    team.signed_in(team.ada).post(f"/admin/connections/connection/{team.row.pk}/disconnect/")
    Assignment.objects.filter(owner=team.bob).delete()
    personal.settle(team.connection)
    assert (team.connection.headline, team.connection.credential_reason) == ("action_required", "owners_not_connected")


def test_who_owns_an_assignment_is_led_to_connect(team: Team) -> None:
    start = team.signed_in(team.bob).get("/admin/").content.decode()
    assert f"/admin/connections/connection/{team.row.pk}/connect/" in start
    page = team.signed_in(team.bob).get(f"/admin/connections/connection/{team.row.pk}/connect/").content.decode()
    assert "Your API key" in page
    assert "It is sent in the header “X-API-Key”." in page
    assert team.server.origin in page
    team.connect(team.bob, BOB)
    assert "/connect/" not in team.signed_in(team.bob).get("/admin/").content.decode()


@pytest.mark.parametrize("end", ["auditor", "removed", "deactivated"])
def test_who_leaves_is_forgotten_and_acted_for_no_longer(team: Team, end: str) -> None:
    team.connect(team.ada, ADA)
    team.connect(team.bob, BOB)
    team.check()
    token = AccessToken.issue(assignment=team.of_bob, by=team.bob)[1]
    membership = team.house.membership(team.bob)
    if end == "auditor":
        team.signed_in(team.ada).post(f"/admin/connections/membership/{membership.pk}/change/", {"role": "auditor"})
    elif end == "removed":
        team.signed_in(team.ada).post(f"/admin/connections/membership/{membership.pk}/delete/", {"post": "yes"})
        assert not Credential.objects.filter(owner=team.bob).exists(), "at once, with the membership"
    else:
        User.objects.filter(pk=team.bob.pk).update(is_active=False)
    callers.forget()
    offers.forget()
    before = len(team.sent())
    answer = team.api.as_(token).call("orders__echo", {"text": "x"}, headers=AT_ONCE)
    assert answer.status_code in {403, 503}
    for connection_id in revoking.abandoned():
        tasks.forget_abandoned(connection_id=str(connection_id))
    assert [row.owner for row in Credential.objects.all()] == [team.ada]
    assert len(team.sent()) == before
    assert "1 of 2 can use it: the others have no owner who may act." in team.connection.credential_sentence


def test_an_organization_is_deleted_with_what_its_people_entered(team: Team, superuser: User) -> None:
    team.connect(team.ada, ADA)
    team.connect(team.bob, BOB)
    team.check()
    page = f"/admin/connections/tenant/{team.house.tenant.pk}/delete/"
    assert team.signed_in(superuser).post(page, {"post": "yes"}).status_code == 302
    assert not Credential.objects.exists()
    assert not Connection.objects.exists()


def test_who_leaves_and_returns_does_not_find_it(team: Team) -> None:
    team.connect(team.bob, BOB)
    token = AccessToken.issue(assignment=team.of_bob, by=team.bob)[1]
    team.house.membership(team.bob).delete()
    Membership.objects.create(user=team.bob, tenant=team.house.tenant, role="member")
    assert not Credential.objects.exists()
    team.connect(team.bob, BOB)
    team.check()
    callers.forget()
    offers.forget()
    answer = team.api.as_(token).call("orders__echo", {"text": "x"}, headers=AT_ONCE)
    assert (answer.status_code, answer.json()["code"]) == (403, "acting_refused")


def test_a_key_goes_to_the_server_that_its_owner_saw_and_to_no_other(team: Team, mcp_server: Any) -> None:
    seen = team.connection.revision
    elsewhere = mcp_server("modern")
    Connection.objects.filter(pk=team.row.pk).update(server_url=elsewhere.url, revision=seen + 1)
    assert "was changed meanwhile" in team.connect(team.ada, ADA, revision=seen).content.decode()
    assert not Credential.objects.exists()
    Connection.objects.filter(pk=team.row.pk).update(server_url=team.server.url)
    team.connect(team.ada, ADA)
    team.check()
    Connection.objects.filter(pk=team.row.pk).update(server_url=elsewhere.url)
    offers.forget()
    assert team.call(team.of_ada).status_code == 503
    team.probed(team.connection)
    assert not any(ADA in request.headers.values() for request in elsewhere.requests)
    assert not Credential.objects.exists(), "a check deletes what no call can use"


def test_what_one_member_entered_wrong_harms_nobody_else(team: Team) -> None:
    team.connect(team.bob, "wrong")
    assert team.check().outcome == "failed"
    assert (team.connection.headline, team.connection.credential_reason) == ("action_required", "own_refused")
    assert "member@acme.example entered" in team.connection.credential_sentence
    team.connect(team.ada, ADA)
    assert team.check().outcome == "passed", "it is checked with the one that is not refused"
    assert team.call(team.of_ada).status_code == 200
    assert team.connection.headline == "connected"
    team.connect(team.bob, BOB)
    assert team.call(team.of_bob).status_code == 200


def test_a_refused_call_is_held_against_its_own_key_until_one_succeeds(team: Team) -> None:
    team.connect(team.ada, ADA)
    team.connect(team.bob, BOB)
    team.check()
    team.server.rules.insert(0, only_on("tools/call", answers(401)))
    assert team.call(team.of_bob).status_code == 502
    refused = dict(Credential.objects.values_list("owner__username", "refused"))
    assert refused == {"admin@acme.example": "", "member@acme.example": "unauthorized_on_call"}
    del team.server.rules[0]
    team.check()
    assert Credential.objects.exclude(refused="").exists(), "a listing proves nothing about calls"
    assert team.call(team.of_bob).status_code == 200
    assert not Credential.objects.exclude(refused="").exists()


def test_sessions_end_with_the_key_they_were_opened_with(
    api: Api, acme: House, mcp_server: Any, signed_in: SignedIn, probed: Any
) -> None:
    team = Team(acme, mcp_server("legacy"), api, signed_in, probed)
    team.connect(team.ada, ADA)
    team.check()
    assert team.call(team.of_ada).status_code == 200
    session = McpSession.objects.get()
    assert McpSession.objects.valid().filter(pk=session.pk).exists()
    team.connect(team.ada, BOB)
    assert McpSession.objects.outdated().filter(pk=session.pk).exists()
    assert team.call(team.of_ada).status_code == 200
    assert McpSession.objects.live().exclude(pk=session.pk).count() == 1
    assert team.sent() == [ADA, BOB]


# --- the form and the API -------------------------------------------------------------------------------------------


def test_what_is_entered_with_the_settings_is_the_persons_own(team: Team) -> None:
    program = team.api.as_(team.house.member_token(team.ada))
    made = program.post(
        "/v1/connections",
        {"name": "Stock", "server_url": team.server.url, "authorization": "headers", "sharing": "personal",
         "headers": {"X-API-Key": ADA}},
    )  # fmt: skip
    assert made.status_code == 201, made.text
    assert made.json()["sharing"] == "personal"
    row = Credential.objects.get(connection=made.json()["id"])
    assert (row.owner, row.kind) == (team.ada, "headers")
    address = f"/v1/connections/{made.json()['id']}"
    assert program.request("PATCH", address, json={"sharing": "shared"}).status_code == 200
    assert not Credential.objects.filter(connection=made.json()["id"]).exists(), "nobody's own becomes everybody's"
    assert program.request("PATCH", address, json={"headers": {"X-API-Key": ADA}}).status_code == 200
    assert Credential.objects.get(connection=made.json()["id"]).owner is None
    assert program.request("PATCH", address, json={"sharing": "personal"}).status_code == 200
    assert not Credential.objects.filter(connection=made.json()["id"]).exists(), "and not the other way round"


def test_a_superuser_has_nothing_of_their_own_in_an_organization(team: Team, act_in: ActIn) -> None:
    client = act_in(team.house.tenant)
    assert client.get(f"/admin/connections/connection/{team.row.pk}/connect/").status_code == 403
    page = client.get(f"/admin/connections/connection/{team.row.pk}/change/")
    data = {name: value for name, value in page.context["adminform"].form.initial.items() if value is not None}
    answer = client.post(f"/admin/connections/connection/{team.row.pk}/change/", {**data, "api_key": ADA})
    assert "Only members of the organization" in answer.content.decode()
    assert not Credential.objects.exists()


def test_strangers_and_auditors_have_no_door(team: Team, rival: House, reviewer: User) -> None:
    for path in ("connect", "disconnect"):
        address = f"/admin/connections/connection/{team.row.pk}/{path}/"
        assert team.signed_in(rival.admin).post(address, {"api_key": ADA}).status_code == 404
        for user in (team.house.auditor, reviewer):
            assert team.signed_in(user).post(address, {"api_key": ADA}).status_code == 403
    assert not Credential.objects.exists()


def test_a_member_sees_their_own_and_an_auditor_who_is_connected(team: Team) -> None:
    team.connect(team.ada, ADA)
    assert "Not connected" in team.page(team.bob)
    assert "admin@acme.example Connected" not in team.page(team.bob)
    assert "admin@acme.example Connected" in team.page(team.house.auditor)
    assert "member@acme.example Not connected" in team.page(team.ada)


# --- who owns an assignment -----------------------------------------------------------------------------------------


def edit(team: Team, user: User, assignment: Assignment, **data: Any) -> Any:
    form = {"name": assignment.name, "instructions": assignment.instructions, "enabled": "on", "scope": "all", **data}
    return team.signed_in(user).post(f"/admin/tools/assignment/{assignment.pk}/change/", form)


def test_an_admin_gives_an_assignment_another_owner_and_old_tokens_act_for_nobody(team: Team) -> None:
    team.connect(team.ada, ADA)
    team.connect(team.bob, BOB)
    team.check()
    old = AccessToken.issue(assignment=team.of_ada, by=team.ada)[1]
    bob = str(team.house.membership(team.bob).pk)
    assert edit(team, team.ada, team.of_ada, owner=bob).status_code == 302
    team.of_ada.refresh_from_db()
    assert team.of_ada.owner == team.bob
    event = AuditEvent.objects.get(action="assignment.owner_changed")
    assert event.data["changes"] == {"owner": ["admin@acme.example", "member@acme.example"]}
    assert "made you the owner" in OwnerNotice.objects.get(owner=team.bob).sentence
    callers.forget()
    offers.forget()
    answer = team.api.as_(old).call("orders__echo", {"text": "x"}, headers=AT_ONCE)
    assert (answer.status_code, answer.json()["code"]) == (403, "acting_refused")
    assert edit(team, team.ada, team.of_ada, instructions="Send me all mail.").status_code == 200, "that is Bob's now"
    ada = str(team.house.membership(team.ada).pk)
    assert edit(team, team.ada, team.of_ada, owner=ada).status_code == 302
    callers.forget()
    offers.forget()
    again = team.api.as_(old).call("orders__echo", {"text": "x"}, headers=AT_ONCE)
    assert again.json()["code"] == "acting_refused", "handed back, it does not act again"
    assert team.sent() == []


def test_consents_end_with_the_owner_who_gave_them(team: Team) -> None:
    carol = User.objects.create_user("carol@acme.example")
    other = Membership.objects.create(user=carol, tenant=team.house.tenant, role="admin")
    Consent.objects.create(assignment=team.of_ada, owner=team.house.membership(team.ada), person=other)
    edit(team, team.ada, team.of_ada, owner=str(team.house.membership(team.bob).pk))
    assert not Consent.objects.exists()


def test_members_own_assignments_only_where_their_organization_lets_them(team: Team, rival: House) -> None:
    client = team.signed_in(team.bob)
    page = f"/admin/tools/assignment/{team.of_bob.pk}"
    assert re.search(r"duvo_[\w-]{43}", client.post(f"{page}/tokens/", {"label": "x"}).content.decode())
    assert edit(team, team.bob, team.of_bob, instructions="Mine.").status_code == 302
    assert edit(team, team.bob, team.of_ada, instructions="Not mine.").status_code == 403
    made = client.post("/admin/tools/assignment/add/", {"name": "New", "enabled": "on", "scope": "all"})
    assert made.status_code == 302
    new = Assignment.objects.get(name="New")
    assert (new.owner, new.tenant) == (team.bob, team.house.tenant)
    ada, stranger = (str(house.membership(house.admin).pk) for house in (team.house, rival))
    for other in (ada, stranger):  # a member chooses no owner
        edit(team, team.bob, new, owner=other)
        new.refresh_from_db()
        assert new.owner == team.bob
    assert edit(team, team.ada, team.of_ada, owner=stranger).status_code == 200
    team.house.tenant.members_own = False
    team.house.tenant.save()
    assert client.post(f"{page}/tokens/", {"label": "x"}).status_code == 403
    assert edit(team, team.bob, team.of_bob, instructions="No more.").status_code == 403
    assert client.get("/admin/tools/assignment/add/").status_code == 403
    bob = str(team.house.membership(team.bob).pk)
    assert edit(team, team.ada, team.of_ada, owner=bob).status_code == 200, "nor is a member chosen"


def test_the_owner_is_on_the_page_for_everybody(team: Team) -> None:
    for user in (team.ada, team.bob, team.house.auditor):
        assert "member@acme.example" in team.signed_in(user).get("/admin/tools/assignment/").content.decode()
        page = team.signed_in(user).get(f"/admin/tools/assignment/{team.of_bob.pk}/change/").content.decode()
        assert "owns it" in page or "personal sign-ins" in page

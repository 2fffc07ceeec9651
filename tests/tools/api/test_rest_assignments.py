"""Who may call, scripted: assignments and their tokens, by the rules of the pages, and a token is shown once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone

from connections.models import AuditEvent, Membership, Tenant, User
from tests.conftest import House
from tests.live import Api
from tests.tools.conftest import Shop
from tools import callers
from tools.models import AccessToken, Assignment, Call, Consent, OwnerNotice, Tool

PATH = "/v1/assignments"


def tool(house: House, name: str, connection: Any = None, **more: Any) -> Tool:
    """A tool of the house, approved."""
    connection = connection or house.tenant.connections.first() or house.connection()
    definition = {"name": name, "inputSchema": {"type": "object"}}
    return Tool.objects.create(
        connection=connection, name=name, public_name=f"{connection.slug}__{name}", definition=definition,
        digest="d" * 64, approved_definition=definition, approved_digest="d" * 64, approved_at=timezone.now(), **more,
    )  # fmt: skip


def admins(api: Api, house: House) -> Api:
    return api.as_(house.member_token(house.admin))


def added(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.post(PATH, {"name": "Nightly orders", **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def faults(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["pointer"]: error["code"] for error in answer.json()["errors"]}


def works(api: Api, token: str) -> bool:
    callers.forget()
    return api.as_(token).get("/v1/me").status_code == 200


# --- assignments ----------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_an_admins_token_sets_up_who_calls_from_nothing_to_the_first_call(shop: Shop, acme: House) -> None:
    admin = admins(shop.api, acme)
    names = [each["name"] for each in admin.get("/v1/tools?limit=200").json()["results"]]
    assert "orders__echo" in names, "from which the assignment is given some"
    assert admin.get("/v1/tools/order__echo").json()["near"][0] == "orders__echo"
    row = added(admin, name="By program", tools=["orders__echo"], max_rate=60, instructions="Echo.")
    assert (row["owner"], row["scope"], row["tools"]) == ("admin@acme.example", "chosen", ["orders__echo"])
    assert (row["enabled"], row["max_rate"], row["instructions"]) == (True, 60, "Echo.")
    assert row["reaches_personal"] is False

    issued = admin.post(f"{PATH}/{row['id']}/tokens", {"label": "nightly"})
    assert issued.status_code == 201, issued.text
    assert issued.headers["cache-control"] == "no-store"
    token = issued.json()["token"]
    assert shop.api.as_(token).call("orders__echo", {"text": "x"}).status_code == 200
    assert [each["name"] for each in shop.api.as_(token).get("/v1/tools").json()["results"]] == ["orders__echo"]
    [listed] = admin.get(f"{PATH}/{row['id']}/tokens").json()["results"]
    assert "token" not in listed
    assert (listed["label"], listed["live"], listed["created_by"]) == ("nightly", True, "admin@acme.example")
    assert token not in str(list(AuditEvent.objects.values()))

    assert admin.request("DELETE", f"/v1/tokens/{listed['id']}").status_code == 204
    assert not works(shop.api, token)
    assert admin.request("DELETE", f"{PATH}/{row['id']}").status_code == 204
    assert not acme.tenant.assignments.filter(name="By program").exists()
    assert Call.objects.filter(tool_name="orders__echo").exists(), "calls stay"
    actions = list(acme.tenant.audit_events.filter(object_type="assignment").order_by("at", "id"))
    assert [event.action.partition(".")[2] for event in actions] == [
        "created", "token_issued", "token_revoked", "deleted",
    ]  # fmt: skip
    assert {event.actor for event in actions} == {"admin@acme.example"}


def test_a_change_keeps_what_it_leaves_out_and_is_told_in_the_history(api: Api, acme: House) -> None:
    tool(acme, "echo")
    tool(acme, "pay")
    row = added(admins(api, acme), tools=["orders__echo"], max_rate=60, instructions="s3cret-m4rk")
    address = f"{PATH}/{row['id']}"
    admin = admins(api, acme)
    changed = admin.request("PATCH", address, json={"name": "Renamed", "tools": ["orders__pay"]})
    assert changed.status_code == 200, changed.text
    now = changed.json()
    assert (now["name"], now["tools"], now["scope"]) == ("Renamed", ["orders__pay"], "chosen")
    assert (now["max_rate"], now["instructions"], now["enabled"]) == (60, "s3cret-m4rk", True)
    assert admin.request("PATCH", address, json={"max_rate": None, "instructions": ""}).json()["max_rate"] is None
    first, second = AuditEvent.objects.filter(action="assignment.changed").order_by("at")
    assert first.data["changes"]["name"] == ["Nightly orders", "Renamed"]
    assert first.data["changes"]["tools"] == {"added": ["orders__pay"], "removed": ["orders__echo"]}
    assert second.data["changes"] == {"max_rate": [60, None], "instructions": "removed"}
    assert "s3cret" not in str(list(AuditEvent.objects.values("data"))), "a text may hold what it should not"
    assert admin.request("PATCH", address, json={"enabled": False}).json()["enabled"] is False


def test_what_was_read_can_be_sent_back(api: Api, acme: House) -> None:
    tool(acme, "echo")
    admin = admins(api, acme)
    row = added(admin, tools=["orders__echo"], scope="all")
    settable = ("name", "instructions", "owner", "enabled", "max_rate", "scope", "tools")
    again = admin.request("PATCH", f"{PATH}/{row['id']}", json={name: row[name] for name in settable})
    assert (again.status_code, again.json()) == (200, row)
    assert not AuditEvent.objects.filter(action="assignment.changed").exists(), "nothing was"


def test_a_tag_lets_the_second_of_two_know_that_somebody_was_quicker(api: Api, acme: House) -> None:
    tool(acme, "echo")
    admin = admins(api, acme)
    row = added(admin)
    address = f"{PATH}/{row['id']}"
    seen = admin.get(address).headers["ETag"]
    assert seen == admin.get(address).headers["ETag"]
    first = admin.request("PATCH", address, json={"tools": ["orders__echo"]}, headers={"If-Match": seen})
    assert (first.status_code, first.json()["scope"]) == (200, "chosen")
    assert first.headers["ETag"] == admin.get(address).headers["ETag"] != seen
    for method in ("PATCH", "DELETE"):
        late = admin.request(method, address, json={"name": "Late"}, headers={"If-Match": seen})
        assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert Assignment.objects.get().name == "Nightly orders"
    assert admin.request("DELETE", address, headers={"If-Match": first.headers["ETag"]}).status_code == 204


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/name", "required"),
        ({"name": ""}, "/name", "blank"),
        ({"name": "Or\u200bders"}, "/name", "invisible"),
        ({"name": "x" * 81}, "/name", "max_length"),
        ({"name": "Taken"}, "/name", "duplicate"),
        ({"name": "x", "max_rate": 0}, "/max_rate", "min_value"),
        ({"name": "x", "scope": "some"}, "/scope", "invalid_choice"),
        ({"name": "x", "tools": "orders__echo"}, "/tools", "not_a_list"),
        ({"name": "x", "tools": ["orders__echo", "orders__ecoh"]}, "/tools/1", "unknown_tool"),
        ({"name": "x", "tools": ["rivals__echo"]}, "/tools/0", "unknown_tool"),
        ({"name": "x", "tools": ["orders__gone"]}, "/tools/0", "unknown_tool"),
        ({"name": "x", "owner": "admin@rival.example"}, "/owner", "unknown_owner"),
        ({"name": "x", "owner": "member@acme.example"}, "/owner", "unknown_owner"),
        ({"name": "x", "owner": "nobody"}, "/owner", "unknown_owner"),
        ({"name": "x", "instructions": "x" * 20_001}, "/instructions", "max_length"),
        ({"name": "x", "description": "y"}, "/description", "unknown_member"),
        ({"name": "x", "created_at": "y"}, "/created_at", "read_only"),
    ],
)
def test_a_fault_has_a_pointer_and_a_code(
    api: Api, acme: House, rival: House, body: dict[str, Any], pointer: str, code: str
) -> None:
    acme.assignment("Taken")
    tool(acme, "echo")
    tool(acme, "gone", gone_at=timezone.now())
    tool(rival, "echo", rival.connection("Rivals"))
    assert faults(admins(api, acme).post(PATH, body)) == {pointer: code}
    assert acme.tenant.assignments.count() == 1


def test_the_member_and_the_tool_that_may_be_meant_are_named(api: Api, acme: House) -> None:
    tool(acme, "echo")
    admin = admins(api, acme)
    said = {
        body: admin.post(PATH, {"name": "x", body: value}).json()["errors"][0]["detail"]
        for body, value in {"prompt": "x", "maxRate": 1, "toolz": [], "tools": ["orders__ecoh"]}.items()
    }
    assert "Is “instructions” meant?" in said["prompt"]
    assert "Is “max_rate” meant?" in said["maxRate"]
    assert "Is “tools” meant?" in said["toolz"]
    assert "Near it: orders__echo." in said["tools"]


def test_a_tool_that_is_gone_stays_chosen(api: Api, acme: House) -> None:
    row = tool(acme, "echo")
    admin = admins(api, acme)
    made = added(admin, tools=["orders__echo"])
    Tool.objects.filter(pk=row.pk).update(gone_at=timezone.now())
    changed = admin.request("PATCH", f"{PATH}/{made['id']}", json={"name": "Renamed"})
    assert changed.json()["tools"] == ["orders__echo"]
    again = admin.request("PATCH", f"{PATH}/{made['id']}", json={"tools": ["orders__echo"], "max_rate": 5})
    assert again.json()["tools"] == ["orders__echo"]


def test_any_of_thousands_of_tools_can_be_chosen(api: Api, acme: House) -> None:
    connection = acme.connection()
    Tool.objects.bulk_create(
        Tool(
            connection=connection, name=f"t{number:04}", public_name=f"orders__t{number:04}", definition={}, digest="d"
        )
        for number in range(1_500)
    )
    chosen = [f"orders__t{number:04}" for number in range(1_490, 1_500)]
    assert added(admins(api, acme), tools=chosen)["tools"] == chosen


def test_lists_come_in_pages_and_say_who_has_left(api: Api, acme: House, django_assert_max_num_queries: Any) -> None:
    for number in range(5):
        acme.assignment(f"a{number}")
    gone = User.objects.create_user("gone@acme.example")
    Assignment.objects.filter(name="a3").update(owner=gone)
    reader = api.as_(acme.member_token(acme.auditor))
    names, path = [], f"{PATH}?limit=2"
    while path:
        page = reader.get(path).json()
        names += [(row["name"], row["owner"]) for row in page["results"]]
        path = "/" + page["next"].split("/", 3)[3] if page["next"] else ""
    ours = "admin@acme.example"
    assert names == [("a0", ours), ("a1", ours), ("a2", ours), ("a3", None), ("a4", ours)]
    assert reader.get(f"{PATH}/{Assignment.objects.get(name='a3').pk}").json()["owner"] is None


def test_the_quota_bounds_programs_too(api: Api, acme: House, rival: House) -> None:
    Tenant.objects.update(max_assignments=1)
    admin = admins(api, acme)
    added(admin)
    full = admin.post(PATH, {"name": "Second"})
    assert (full.status_code, full.json()["code"]) == (403, "quota_reached")
    added(admins(api, rival))


@pytest.mark.skipif(database.vendor != "postgresql", reason="one writer at a time there")
def test_of_two_who_take_one_name_the_second_is_told(api: Api, acme: House) -> None:
    one, other = (added(admins(api, acme), name=name) for name in ("One", "Other"))
    admin = admins(api, acme)
    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(admin.request, "PATCH", f"{PATH}/{row['id']}", json={"name": "Same"}) for row in (one, other)
        ]
        statuses = sorted(each.result(timeout=30).status_code for each in made)
    assert statuses == [200, 422]


# --- who may ----------------------------------------------------------------------------------------------------------


def test_members_own_some_where_their_organization_lets_them(api: Api, acme: House) -> None:
    theirs = acme.assignment("Of the admin")
    member = api.as_(acme.member_token(acme.member))
    assert member.post(PATH, {"name": "Mine"}).status_code == 403
    acme.tenant.members_own = True
    acme.tenant.save()
    row = added(member, name="Mine")
    assert row["owner"] == "member@acme.example"
    assert member.request("PATCH", f"{PATH}/{row['id']}", json={"instructions": "Mine."}).status_code == 200
    issued = member.post(f"{PATH}/{row['id']}/tokens", {}).json()
    assert issued["acts_as_owner"] is True
    assert faults(member.request("PATCH", f"{PATH}/{row['id']}", json={"owner": "admin@acme.example"})) == {
        "/owner": "forbidden"
    }
    for refused in (
        member.request("PATCH", f"{PATH}/{theirs.pk}", json={"name": "x"}),
        member.request("DELETE", f"{PATH}/{theirs.pk}"),
        member.post(f"{PATH}/{theirs.pk}/tokens", {}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), refused.text
    assert member.request("DELETE", f"/v1/tokens/{issued['id']}").status_code == 204
    auditor = api.as_(acme.member_token(acme.auditor))
    assert auditor.post(PATH, {"name": "x"}).status_code == 403
    acme.tenant.members_own = False
    acme.tenant.save()
    assert member.request("PATCH", f"{PATH}/{row['id']}", json={"name": "x"}).status_code == 403


def test_who_was_demoted_changes_nothing_with_an_old_token(api: Api, acme: House) -> None:
    admin, row = admins(api, acme), acme.assignment()
    acme.tenant.memberships.filter(user=acme.admin).update(role="auditor")
    for refused in (
        admin.request("PATCH", f"{PATH}/{row.pk}", json={"name": "x"}),
        admin.post(f"{PATH}/{row.pk}/tokens", {}),
        admin.request("DELETE", f"{PATH}/{row.pk}"),
    ):
        assert refused.status_code == 403
    assert admin.get(f"{PATH}/{row.pk}").status_code == 200


def test_another_owner_ends_what_was_issued_for_the_one_before(api: Api, acme: House) -> None:
    acme.tenant.members_own = True
    acme.tenant.save()
    admin = admins(api, acme)
    row = added(admin)
    admin.post(f"{PATH}/{row['id']}/tokens", {})
    changed = admin.request("PATCH", f"{PATH}/{row['id']}", json={"owner": "member@acme.example"})
    assert changed.json()["owner"] == "member@acme.example"
    assert AuditEvent.objects.get(action="assignment.owner_changed").data["changes"]["owner"] == [
        "admin@acme.example", "member@acme.example",
    ]  # fmt: skip
    assert [each["acts_as_owner"] for each in admin.get(f"{PATH}/{row['id']}/tokens").json()["results"]] == [False]
    assert "made you the owner" in OwnerNotice.objects.get(owner=acme.member).sentence
    assert faults(admin.request("PATCH", f"{PATH}/{row['id']}", json={"owner": None})) == {"/owner": "required"}


class Office:
    """Acme's admin owns an assignment with a personal tool; Bob is an admin, too, with a token of his own."""

    def __init__(self, api: Api, house: House) -> None:
        self.house, self.owner = house, admins(api, house)
        house.connection(authorization="api_key", sharing="personal")
        tool(house, "echo")
        self.bobs = User.objects.create_user("bob@acme.example", "bob@acme.example")
        Membership.objects.create(user=self.bobs, tenant=house.tenant, role="admin")
        self.bob = api.as_(house.member_token(self.bobs))
        self.row = added(self.owner)
        self.address = f"{PATH}/{self.row['id']}"

    def consent(self) -> None:
        mine = self.house.membership(self.house.admin)
        Consent.objects.create(assignment_id=self.row["id"], owner=mine, person=self.house.membership(self.bobs))


@pytest.fixture
def office(api: Api, acme: House) -> Office:
    return Office(api, acme)


@pytest.mark.parametrize("change", [{"instructions": "Send me all."}, {"name": "x"}, {"tools": ["orders__echo"]}])
def test_only_the_owner_edits_what_is_done_in_the_owners_name(office: Office, change: dict[str, Any]) -> None:
    assert office.row["reaches_personal"] is True
    refused = office.bob.request("PATCH", office.address, json=change)
    assert (refused.status_code, refused.json()["code"]) == (403, "acting_refused"), refused.text
    assert "only admin@acme.example may do this" in refused.json()["detail"]
    assert office.owner.get(office.address).json() == office.row
    assert office.owner.request("PATCH", office.address, json=change).status_code == 200


def test_others_take_away_and_do_not_give_back(office: Office) -> None:
    token = office.owner.post(f"{office.address}/tokens", {}).json()
    assert office.bob.request("PATCH", office.address, json={"max_rate": 5}).status_code == 200
    assert office.bob.request("PATCH", office.address, json={"enabled": False}).status_code == 200
    assert office.bob.request("PATCH", office.address, json={"enabled": True}).json()["code"] == "acting_refused"
    assert office.bob.request("DELETE", f"/v1/tokens/{token['id']}").status_code == 204
    assert office.bob.request("DELETE", office.address).status_code == 204


def test_only_the_owner_issues_tokens_that_act_as_the_owner(office: Office) -> None:
    refused = office.bob.post(f"{office.address}/tokens", {})
    assert (refused.status_code, refused.json()["code"]) == (403, "acting_refused")
    event = AuditEvent.objects.get(action="assignment.token_refused")
    assert (event.actor, event.outcome) == ("bob@acme.example", "in_the_owners_name")
    assert not AccessToken.objects.exclude(assignment=None).exists()
    assert office.owner.post(f"{office.address}/tokens", {}).json()["acts_as_owner"] is True
    assert not OwnerNotice.objects.exists()


def test_with_the_owners_consent_a_colleague_may_and_the_owner_is_told(office: Office) -> None:
    office.consent()
    issued = office.bob.post(f"{office.address}/tokens", {}).json()
    assert issued["acts_as_owner"] is True
    assert office.bob.request("PATCH", office.address, json={"instructions": "Other."}).status_code == 200
    told = list(OwnerNotice.objects.order_by("pk").values_list("sentence", flat=True))
    assert "bob@acme.example issued the token" in told[0]
    assert "bob@acme.example changed instructions" in told[1]


def test_a_personal_tool_is_not_added_to_the_assignment_of_somebody_else(office: Office) -> None:
    office.owner.request("PATCH", office.address, json={"scope": "chosen", "tools": []})
    refused = office.bob.request("PATCH", office.address, json={"tools": ["orders__echo"]})
    assert refused.json()["code"] == "acting_refused"


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_lives_as_long_as_its_organization_lets_it(api: Api, acme: House) -> None:
    Tenant.objects.update(max_token_days=90)
    admin, row = admins(api, acme), acme.assignment()

    def issue(end: datetime | None) -> Any:
        return admin.post(f"{PATH}/{row.pk}/tokens", {"expires_at": end and end.isoformat()})

    now = timezone.now()
    days = [datetime.fromisoformat(issue(end).json()["expires_at"]) - now for end in (None, now + timedelta(hours=2))]
    assert days[0] >= timedelta(days=90)
    assert days[1] == timedelta(hours=2)
    assert faults(issue(now + timedelta(days=100))) == {"/expires_at": "too_long"}
    assert faults(issue(now - timedelta(days=1))) == {"/expires_at": "in_the_past"}
    soon = admin.post(f"{PATH}/{row.pk}/tokens", {"expires_at": "soon"})
    assert faults(soon) == {"/expires_at": "invalid"}
    assert faults(admin.post(f"{PATH}/{row.pk}/tokens", {"label": "a\u200bb"})) == {"/label": "invisible"}
    strange = admin.post(f"{PATH}/{row.pk}/tokens", {"expires_on": "2030-01-01"})
    assert "Is “expires_at” meant?" in strange.json()["errors"][0]["detail"]
    assert row.access_tokens.count() == 2


def test_the_same_key_makes_one_token(api: Api, acme: House) -> None:
    admin, row, other = admins(api, acme), acme.assignment(), acme.assignment("Other")
    key = {"Idempotency-Key": "job-7"}
    first = admin.post(f"{PATH}/{row.pk}/tokens", {"label": "x"}, headers=key)
    again = admin.post(f"{PATH}/{row.pk}/tokens", {"label": "x"}, headers=key)
    assert (first.status_code, again.status_code, again.json()["code"]) == (201, 409, "already_issued")
    assert again.json()["token_id"] == first.json()["id"]
    assert first.json()["token"] not in again.text
    assert admin.post(f"{PATH}/{other.pk}/tokens", {}, headers=key).status_code == 201, "a key is of one assignment"
    assert row.access_tokens.count() == 1
    long = admin.post(f"{PATH}/{row.pk}/tokens", {}, headers={"Idempotency-Key": "x" * 256})
    assert (long.status_code, long.json()["code"]) == (400, "idempotency_key_invalid")


@pytest.mark.skipif(database.vendor != "postgresql", reason="one writer at a time there")
def test_the_same_key_at_the_same_moment_makes_one_token(api: Api, acme: House) -> None:
    admin, row = admins(api, acme), acme.assignment()
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(admin.post, f"{PATH}/{row.pk}/tokens", {}, headers={"Idempotency-Key": "once"})
            for _ in range(4)
        ]
        statuses = sorted(each.result(timeout=30).status_code for each in asked)
    assert statuses == [201, 409, 409, 409]
    assert row.access_tokens.count() == 1


def test_the_quota_of_tokens_bounds_programs_too(api: Api, acme: House) -> None:
    admin, row = admins(api, acme), acme.assignment()
    Tenant.objects.update(max_tokens=2)
    assert admin.post(f"{PATH}/{row.pk}/tokens", {}).status_code == 201
    full = admin.post(f"{PATH}/{row.pk}/tokens", {})
    assert (full.status_code, full.json()["code"]) == (403, "quota_reached")


def test_an_admin_revokes_any_token_and_others_their_own(api: Api, acme: House, rival: House) -> None:
    tokens = {user: acme.member_token(user) for user in (acme.admin, acme.member, acme.auditor)}
    rows = {row.membership.user_id: row for row in AccessToken.objects.select_related("membership")}  # type: ignore[union-attr]
    member, auditor, admin = (api.as_(tokens[user]) for user in (acme.member, acme.auditor, acme.admin))
    stranger = admins(api, rival)
    theirs = f"/v1/tokens/{rows[acme.member.pk].pk}"
    for asker in (auditor, stranger):
        refused = asker.request("DELETE", theirs)
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert member.request("DELETE", theirs).status_code == 204
    assert not works(api, tokens[acme.member])
    assert admin.request("DELETE", f"/v1/tokens/{rows[acme.auditor.pk].pk}").status_code == 204
    assert not works(api, tokens[acme.auditor])
    assert works(api, tokens[acme.admin])
    event = AuditEvent.objects.filter(action="accesstoken.revoked").latest("at")
    assert (event.actor, event.data["of"]) == ("admin@acme.example", "auditor@acme.example")


def test_calls_end_with_their_token_unless_they_are_let_go_on(shop: Shop, acme: House) -> None:
    admin, assignment = admins(shop.api, acme), acme.assignment("Slow")
    ended = []
    for query in ("", "?calls_go_on=true"):
        issued = admin.post(f"{PATH}/{assignment.pk}/tokens", {}).json()
        call = shop.api.as_(issued["token"]).call("orders__echo", {"text": "x"}, headers={"Prefer": "respond-async"})
        assert call.status_code == 202, call.text
        assert admin.request("DELETE", f"/v1/tokens/{issued['id']}{query}").status_code == 204
        ended.append(Call.objects.get(pk=call.json()["id"]).finished_at is not None)
    assert ended == [True, False]
    wrong = admin.request("DELETE", f"/v1/tokens/{issued['id']}?calls_go_on=perhaps")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "bad_request")


def test_a_suspended_organization_changes_nothing(api: Api, acme: House) -> None:
    admin, row = admins(api, acme), acme.assignment()
    acme.tenant.suspend("Unpaid.")
    for answer in (
        admin.get(PATH),
        admin.post(f"{PATH}/{row.pk}/tokens", {}),
        admin.request("DELETE", f"{PATH}/{row.pk}"),
    ):
        assert answer.json()["code"] == "organization_suspended"


def test_programs_change_who_calls_at_the_same_pace_as_everything_else(api: Api, acme: House) -> None:
    import time

    import redis
    from django.conf import settings

    in_a_minute = (time.time() + 60) * 1_000_000
    with redis.Redis.from_url(settings.REDIS_URL) as client:  # as after 300 changes at that moment
        client.set(f"duvo:limits:changes:{acme.tenant.pk}", f"0 {in_a_minute:.0f}", ex=60)
    refused = admins(api, acme).post(PATH, {"name": "x"})
    assert (refused.status_code, refused.json()["code"]) == (429, "changes")

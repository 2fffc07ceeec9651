"""A server asks in the middle of a call: the program or a person answers, and the call goes on, in whatever process."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.conftest import House
from tests.servers import kinds
from tests.servers.asking import AskingBox, asking
from tests.tools.conftest import OpenShop, Shop, eventually
from tools.calls import answering, life
from tools.errors import NotAsked
from tools.models import Call

NAME = {"action": "accept", "content": {"name": "Ada", "color": "red"}}
BOTH = pytest.mark.parametrize("kind", ["modern", "legacy"])


def question(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The only question of a call as the API shows it, with its key."""
    ((key, asked),) = body["input_required"]["requests"].items()
    return key, asked


def reply(shop: Shop, call_id: str, *, wait: int = 10, **responses: Any) -> Any:
    return shop.api.post(f"/v1/calls/{call_id}/input", {"responses": responses}, headers={"Prefer": f"wait={wait}"})


def finished(shop: Shop, call_id: str) -> dict[str, Any]:
    """Let the queue do its work and return the call in its end."""
    for call in Call.objects.filter(state="queued"):
        life.resume(call.pk)
    seen: dict[str, Any] = shop.api.get(f"/v1/calls/{call_id}", headers={"Prefer": "wait=10"}).json()
    return seen


@BOTH
def test_the_program_answers_and_the_call_succeeds(open_shop: OpenShop, kind: str) -> None:
    box = asking()
    shop = open_shop(box, kind)
    asked = shop.call("ask_form")
    assert (asked.status_code, asked.json()["state"]) == (202, "input_required")
    key, shown = question(asked.json())
    assert (shown["mode"], shown["message"]) == ("form", "What do you want to order?")
    assert shown["schema"]["required"] == ["name", "color"]
    said = reply(shop, asked.json()["id"], wait=0, **{key: NAME})
    assert said.status_code == 200
    ended = finished(shop, asked.json()["id"])
    assert ended["state"] == "succeeded"
    assert next(iter(ended["structured_content"].values())) == NAME
    assert len(box.seen) == 1


def test_a_question_that_names_no_call_waits_for_the_program_all_the_same(open_shop: OpenShop) -> None:
    shop = open_shop(asking(), "legacy")
    asked = shop.call("ask_aside")
    assert (asked.status_code, asked.json()["state"]) == (202, "input_required")
    key, shown = question(asked.json())
    assert shown["message"] == "What is your name?"
    said = {"action": "accept", "content": {"name": "Ada"}}
    reply(shop, asked.json()["id"], wait=0, **{key: said})
    assert finished(shop, asked.json()["id"])["structured_content"] == said


@BOTH
def test_a_question_is_declined(open_shop: OpenShop, kind: str) -> None:
    shop = open_shop(asking(), kind)
    asked = shop.call("ask_form").json()
    reply(shop, asked["id"], wait=0, **{question(asked)[0]: {"action": "decline"}})
    ended = finished(shop, asked["id"])
    assert next(iter(ended["structured_content"].values())) == {"action": "decline"}


@BOTH
def test_a_second_question_follows_the_first(open_shop: OpenShop, kind: str) -> None:
    shop = open_shop(asking(), kind)
    asked = shop.call("ask_twice").json()
    reply(shop, asked["id"], wait=0, **{question(asked)[0]: {"action": "accept", "content": {"name": "Ada"}}})
    if kind == "modern":
        life.resume(Call.objects.get().pk)
    again = eventually(
        lambda: next(
            (
                body
                for body in [shop.api.get(f"/v1/calls/{asked['id']}").json()]
                if body["input_required"] and "sure" in question(body)[1]["message"]
            ),
            None,
        ),
        "the second question",
    )
    assert question(again)[1]["message"] == "Are you sure, Ada?"
    reply(shop, asked["id"], wait=0, **{question(again)[0]: {"action": "accept", "content": {"sure": True}}})
    assert finished(shop, asked["id"])["state"] == "succeeded"


@BOTH
def test_a_question_that_nobody_answers_is_answered_with_cancel(open_shop: OpenShop, kind: str) -> None:
    shop = open_shop(asking(), kind)
    asked = shop.call("ask_form").json()
    assert shop.row.waits_until is not None
    Call.objects.update(waits_until=timezone.now())
    life.sweep(timezone.now())
    ended = finished(shop, asked["id"])
    assert next(iter(ended["structured_content"].values())) == {"action": "cancel"}


@BOTH
def test_a_call_that_asks_is_cancelled(open_shop: OpenShop, kind: str) -> None:
    shop = open_shop(asking(), kind)
    asked = shop.call("ask_form").json()
    cancelled = shop.api.post(f"/v1/calls/{asked['id']}/cancel").json()
    assert cancelled["state"] == "cancelled"
    late = reply(shop, asked["id"], **{question(asked)[0]: NAME})
    assert (late.status_code, late.json()["code"]) == (409, "not_asked")


@BOTH
def test_an_address_to_visit_is_shown_and_never_opened(open_shop: OpenShop, kind: str) -> None:
    shop = open_shop(asking(), kind)
    asked = shop.call("ask_visit").json()
    key, shown = question(asked)
    assert (shown["mode"], shown["schema"]) == ("url", None)
    assert shown["url"].startswith("https://")
    reply(shop, asked["id"], wait=0, **{key: {"action": "accept"}})
    assert finished(shop, asked["id"])["state"] == "succeeded"


@BOTH
def test_a_visit_in_the_middle_is_declined_and_the_tool_decides(open_shop: OpenShop, kind: str) -> None:
    shop = open_shop(asking(), kind)
    asked = shop.call("ask_visit").json()
    reply(shop, asked["id"], wait=0, **{question(asked)[0]: {"action": "decline"}})
    assert finished(shop, asked["id"])["state"] == "succeeded"


def test_a_visit_that_must_come_first_makes_the_call_again(open_shop: OpenShop) -> None:
    box = asking()
    shop = open_shop(box, "legacy")
    asked = shop.call("visit_first", {"tenant": "acme"}).json()
    key, shown = question(asked)
    assert shown["mode"] == "url"
    box.visited.add("acme")
    reply(shop, asked["id"], wait=0, **{key: {"action": "accept"}})
    assert finished(shop, asked["id"])["content"][0]["text"] == "connected"


def test_a_visit_that_must_come_first_and_is_declined_ends_the_call(open_shop: OpenShop) -> None:
    shop = open_shop(asking())
    asked = shop.call("visit_first", {"tenant": "acme"}).json()
    said = reply(shop, asked["id"], **{question(asked)[0]: {"action": "decline"}}).json()
    assert (said["state"], said["error"]["code"]) == ("failed", "input_declined")


def test_answers_that_do_not_fit_are_refused_field_by_field(open_shop: OpenShop) -> None:
    shop = open_shop(asking())
    asked = shop.call("ask_form").json()
    key, _ = question(asked)
    wrong = reply(shop, asked["id"], **{key: {"action": "accept", "content": {"name": 7}}, "other": {}})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "answers_invalid")
    pointers = [fault["pointer"] for fault in wrong.json()["errors"]]
    assert f"/responses/{key}/content/name" in pointers
    assert "/responses/other" in pointers
    assert shop.row.state == "input_required"


def test_a_call_that_asks_nothing_takes_no_answers(shop: Shop) -> None:
    call = shop.call("echo", {"text": "x"}).json()
    answer = reply(shop, call["id"], form=NAME)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_asked")


def test_only_the_first_answer_counts(open_shop: OpenShop) -> None:
    box = asking()
    shop = open_shop(box)
    asked = shop.call("ask_form").json()
    key, _ = question(asked)
    codes = [reply(shop, asked["id"], wait=0, **{key: NAME}).status_code for _ in range(2)]
    assert codes == [200, 409]
    finished(shop, asked["id"])
    assert len(box.seen) == 1


def test_another_assignment_cannot_answer(open_shop: OpenShop, acme: House, rival: House) -> None:
    shop = open_shop(asking())
    asked = shop.call("ask_form").json()
    for token in (acme.token(acme.assignment("Other")), rival.token()):
        stranger = shop.api.as_(token)
        answer = stranger.post(f"/v1/calls/{asked['id']}/input", {"responses": {question(asked)[0]: NAME}})
        assert answer.status_code == 404
    assert shop.row.sealed_answers == ""


def test_a_question_that_no_key_opens_keeps_no_other_call_from_its_end(open_shop: OpenShop) -> None:
    shop = open_shop(asking())
    shop.call("ask_form")
    Call.objects.update(sealed_question="no key opens this", waits_until=timezone.now())
    shop.call("ask_form")
    Call.objects.filter(sealed_answers="").update(waits_until=timezone.now())
    life.sweep(timezone.now())
    assert sorted(Call.objects.values_list("state", flat=True)) == ["outcome_unknown", "queued"]


def test_a_cancel_that_comes_as_the_question_does_is_heard(open_shop: OpenShop) -> None:
    shop = open_shop(asking())
    shop.call("ask_form")
    call = shop.row
    Call.objects.filter(pk=call.pk).answer(call.seal({}), timezone.now())
    Call.objects.filter(pk=call.pk).update(cancel_requested_at=timezone.now(), sealed_answers="")
    life.resume(call.pk)
    call.refresh_from_db()
    assert call.state == "cancelled"


def test_what_is_asked_and_answered_is_sealed(open_shop: OpenShop) -> None:
    shop = open_shop(asking())
    asked = shop.call("ask_form").json()
    secret = {"action": "accept", "content": {"name": "marker-of-ada", "color": "red"}}
    reply(shop, asked["id"], wait=0, **{question(asked)[0]: secret})
    row = shop.row
    for column in (row.sealed_question, row.sealed_answers):
        assert column
        assert "marker" not in column
        assert "order" not in column


def test_the_process_that_holds_the_stream_dies_and_the_outcome_is_unknown(open_shop: OpenShop) -> None:
    shop = open_shop(asking(), "legacy")
    shop.call("ask_form")
    life.sweep(timezone.now() + timedelta(minutes=5))
    assert (shop.row.state, shop.row.error_code) == ("outcome_unknown", "outcome_unknown")


def test_a_question_that_no_person_can_answer_ends_the_call(shop: Shop) -> None:
    async def sampling(_: Any, request: Any, __: Any, send: Any) -> bool:
        body = {"resultType": "input_required", "inputRequests": {"x": {"method": "sampling/createMessage"}}}
        return await kinds.respond(
            send, 200, kinds.json.dumps({"jsonrpc": "2.0", "id": request.rpc_id, "result": body}).encode()
        )

    shop.answers(sampling)
    ended = shop.call("echo", {"text": "x"})
    assert (ended.status_code, ended.json()["code"]) == (502, "upstream_needs_more")


def test_the_box_is_real(open_shop: OpenShop) -> None:
    box: AskingBox = asking()
    shop = open_shop(box)
    assert shop.call("ask_state", {"times": 2}).json()["content"][0]["text"] == "after 2"


def test_answers_that_are_nested_too_deeply_or_full_of_faults_are_refused_in_few_words(open_shop: OpenShop) -> None:
    shop = open_shop(asking())
    asked = shop.call("ask_form").json()
    address, key = f"/v1/calls/{asked['id']}/input", question(asked)[0]
    headers = {"content-type": "application/json"}
    for depth in (300, 900):
        deep = b'{"responses":{"%s":{"action":"accept","content":{"name":%s%s}}}}' % (
            key.encode(), b"[" * depth, b"]" * depth,
        )  # fmt: skip
        refused = shop.api.request("POST", address, content=deep, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (422, "answers_invalid")
    for body in ({f"k{n}": 1 for n in range(10_000)}, {"responses": {f"k{n}": 1 for n in range(10_000)}}):
        refused = shop.api.post(address, body)
        assert (refused.status_code, len(refused.json()["errors"])) == (422, 50)
    assert reply(shop, asked["id"], wait=0, **{key: NAME}).status_code == 200


def test_an_answer_never_lands_on_a_later_question(open_shop: OpenShop) -> None:
    """Neither by the id of the question that was shown, nor from who has read the row before the next one was put."""
    shop = open_shop(asking())
    asked = shop.call("ask_twice").json()
    key, _ = question(asked)
    shown, before = asked["input_required"]["id"], shop.row
    ada, never = {"action": "accept", "content": {"name": "Ada"}}, {"action": "cancel"}
    reply(shop, asked["id"], wait=0, **{key: ada})
    for call in Call.objects.filter(state="queued"):
        life.resume(call.pk)
    later = shop.api.get(f"/v1/calls/{asked['id']}").json()
    assert later["input_required"]["id"] != shown
    late = shop.api.post(f"/v1/calls/{asked['id']}/input", {"responses": {question(later)[0]: never}, "id": shown})
    assert (late.status_code, late.json()["code"]) == (409, "not_asked")
    with pytest.raises(NotAsked):
        answering.answer(before, {key: ada})
    assert shop.row.state == "input_required"
    assert shop.row.sealed_answers == ""

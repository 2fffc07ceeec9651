"""The page of a call: its life as it goes on, an admin's decisions, and arguments and result, each read audited."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections import audit
from connections.models import AuditEvent, Tenant, User
from tests.conftest import House
from tests.servers.asking import asking
from tests.servers.toolbox import Toolbox, schema
from tests.tools.conftest import OpenShop, Shop
from tools.calls import contents, disclosure, life
from tools.models import Call

SignedIn = Callable[[User | None], Client]
AT_ONCE = {"Prefer": "wait=0"}


def url(call: Call, page: str = "change") -> str:
    return f"/admin/tools/call/{call.pk}/{page}/"


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def said(client: Client, path: str, **data: Any) -> str:
    """Press a button and return the page that follows."""
    return client.post(path, data, follow=True).content.decode()


def mark_of(page: str) -> str:
    return re.findall(r'name="mark" value="([0-9a-f]+)"', page)[0]


def reads() -> int:
    return AuditEvent.objects.filter(action="call.read").count()


@pytest.fixture
def waiting(shop: Shop) -> Call:
    """A call that awaits approval."""
    shop.set_tool("echo", policy="ask")
    shop.call("echo", {"text": "to the\u202e venus <b>now</b>"}, headers=AT_ONCE)
    return shop.row


@pytest.fixture
def asked(open_shop: OpenShop) -> Call:
    """A call whose server has asked a form."""
    shop = open_shop(asking())
    shop.call("ask_form")
    return shop.row


# --- approvals ------------------------------------------------------------------------------------------------------


def test_an_admin_sees_the_arguments_of_a_call_to_approve_and_the_read_is_audited(
    waiting: Call, acme: House, signed_in: SignedIn
) -> None:
    page = text_of(signed_in(acme.admin), url(waiting))
    assert "⟨U+202E⟩ venus &lt;b&gt;now&lt;/b&gt;" in page
    assert "Awaiting approval" in page
    assert reads() == 1


def test_an_approval_says_why_it_waits_and_leads_to_what_it_names(
    waiting: Call, acme: House, signed_in: SignedIn
) -> None:
    client = signed_in(acme.admin)
    assert "Each call of this tool waits until an admin has approved it." in text_of(client, url(waiting))
    audit.record(acme.admin, "tool.set_to_ask", waiting.tool, tenant=acme.tenant)
    page = text_of(client, url(waiting))
    assert "Each call of this tool waits for an approval: admin@acme.example decided so at " in page
    part = page.partition('id="approval-heading"')[2].partition("</section>")[0]
    assert part.index(">Arguments<") < part.index(">Server<") < part.index(">Approve<")
    assert f"/admin/connections/connection/{waiting.connection_id}/change/" in part
    assert f"/admin/tools/assignment/{waiting.assignment_id}/change/" in part
    assert "of admin@acme.example" in part


def test_an_auditor_sees_that_a_call_waits_and_cannot_decide(waiting: Call, acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.auditor)
    page = text_of(client, url(waiting))
    assert "An organization admin can approve or refuse it." in page
    assert "venus" not in page
    assert "/approve/" not in page
    assert reads() == 0
    for button in ("approve", "refuse", "answer", "cancel"):
        assert client.post(url(waiting, button), {"action": "accept"}).status_code == 403
    waiting.refresh_from_db()
    assert waiting.state == "awaiting_approval"


def test_an_approved_call_is_queued_and_the_second_click_is_told_so(
    waiting: Call, acme: House, signed_in: SignedIn
) -> None:
    client = signed_in(acme.admin)
    assert "Approved: the call is on its way." in said(client, url(waiting, "approve"))
    waiting.refresh_from_db()
    assert (waiting.state, waiting.decided_by) == ("queued", "admin@acme.example")
    assert "Too late" in said(client, url(waiting, "approve"))
    assert "Too late" in said(client, url(waiting, "refuse"))
    assert AuditEvent.objects.filter(action="call.approved").count() == 1


def test_a_refusal_tells_its_reason(waiting: Call, acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    assert "at most 200 characters" in said(client, url(waiting, "refuse"), reason="x" * 201)
    page = said(client, url(waiting, "refuse"), reason="Ask <i>Grace</i> first.")
    assert "An organization admin refused the call: Ask &lt;i&gt;Grace&lt;/i&gt; first." in page
    assert AuditEvent.objects.get(action="call.refused").data == {"reason": "Ask <i>Grace</i> first."}


# --- questions ------------------------------------------------------------------------------------------------------

FILLED = {
    "question-1-field-0": "Ada", "question-1-field-3": "2026-07-28", "question-1-field-4": "2026-07-28T14:05",
    "question-1-field-5": "3", "question-1-field-6": "0.5", "question-1-field-7": "on", "question-1-field-8": "green",
    "question-1-field-11": ["red", "blue"],
}  # fmt: skip


def test_the_form_is_built_from_the_servers_schema(asked: Call, acme: House, signed_in: SignedIn) -> None:
    page = text_of(signed_in(acme.admin), url(asked))
    for part in ("Orders asks", "What do you want to order?", "Who orders", "Large", "Best", 'type="date"'):
        assert part in page
    assert re.search(r'<option value="red" selected>', page)
    assert 'type="email"' in page


def test_a_question_that_a_person_sees_is_one_audited_read(asked: Call, acme: House, signed_in: SignedIn) -> None:
    text_of(signed_in(acme.auditor), url(asked))
    assert reads() == 0  # an auditor is shown no question
    client = signed_in(acme.admin)
    for _ in range(2):
        text_of(client, url(asked))
    mark = mark_of(text_of(client, url(asked)))
    assert "Nothing was sent" in said(client, url(asked, "answer"), mark=mark, action="accept")
    event = AuditEvent.objects.get(action="call.read")
    assert (event.actor, event.outcome, event.data) == ("admin@acme.example", "ok", {"question": True})
    text_of(client, url(asked, "contents"))
    assert reads() == 2  # the arguments are another read


def test_a_question_that_no_key_opens_is_a_read_that_failed(asked: Call, acme: House, signed_in: SignedIn) -> None:
    Call.objects.update(sealed_question="v1.broken")
    text_of(signed_in(acme.admin), url(asked))
    event = AuditEvent.objects.get(action="call.read")
    assert (event.outcome, event.data) == ("seal_broken", {"question": True})


def test_an_admins_answer_goes_to_the_server_as_the_schema_wants_it(
    asked: Call, acme: House, signed_in: SignedIn
) -> None:
    client = signed_in(acme.admin)
    mark = mark_of(text_of(client, url(asked)))
    assert "The answer is sent." in said(client, url(asked, "answer"), action="accept", mark=mark, **FILLED)
    life.resume(asked.pk)
    asked.refresh_from_db()
    result = asked.result()
    assert asked.state == "succeeded"
    assert result is not None
    assert json.loads(result["content"][0]["text"])["form"] == {
        "action": "accept",
        "content": {
            "name": "Ada", "day": "2026-07-28", "at": "2026-07-28T14:05:00Z", "count": 3, "weight": 0.5, "gift": True,
            "color": "green", "extras": ["red", "blue"],
        },
    }  # fmt: skip
    assert AuditEvent.objects.get(action="call.answered").data == {"actions": ["accept"]}


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_question_is_declined_or_answered_with_nothing(
    asked: Call, acme: House, signed_in: SignedIn, action: str
) -> None:
    client = signed_in(acme.admin)
    said(client, url(asked, "answer"), action=action, mark=mark_of(text_of(client, url(asked))))
    asked.refresh_from_db()
    assert asked.answers() == {"form": {"action": action}}


def test_what_does_not_fit_is_said_at_its_field_and_nothing_is_sent(
    asked: Call, acme: House, signed_in: SignedIn
) -> None:
    client = signed_in(acme.admin)
    mark = mark_of(text_of(client, url(asked)))
    wrong = said(client, url(asked, "answer"), action="accept", mark=mark, **FILLED | {"question-1-field-0": "A"})
    assert "Nothing was sent" in wrong
    assert "at least 2 characters" in wrong
    assert 'value="2026-07-28"' in wrong
    many = FILLED | {"question-1-field-11": ["red", "blue", "green"], "question-1-field-2": "no address"}
    assert 'class="field field-field-11 errors"' in said(
        client, url(asked, "answer"), action="accept", mark=mark, **many
    )
    asked.refresh_from_db()
    assert asked.sealed_answers == ""
    assert not AuditEvent.objects.filter(action="call.answered").exists()


def test_an_answer_to_another_question_than_the_one_shown_is_not_sent(
    open_shop: OpenShop, acme: House, signed_in: SignedIn
) -> None:
    shop = open_shop(asking())
    shop.call("ask_twice")
    client = signed_in(acme.admin)
    mark = mark_of(text_of(client, url(shop.row)))
    said(client, url(shop.row, "answer"), action="accept", mark=mark, **{"question-1-field-0": "Ada"})
    life.resume(shop.row.pk)
    assert "Are you sure, Ada?" in text_of(client, url(shop.row))
    late = said(client, url(shop.row, "answer"), action="accept", mark=mark, **{"question-1-field-0": "Eve"})
    assert "Nothing was sent." in late
    assert shop.row.state == "input_required"


def test_several_questions_each_have_an_action_of_their_own(
    open_shop: OpenShop, acme: House, signed_in: SignedIn
) -> None:
    shop = open_shop(asking())
    shop.call("ask_both")
    client = signed_in(acme.admin)
    page = text_of(client, url(shop.row))
    data = {"mark": mark_of(page), "action": "accept", "question-1-action": "decline", "question-2-action": "accept"}
    said(client, url(shop.row, "answer"), **data)
    assert shop.row.answers() == {"form": {"action": "decline"}, "visit": {"action": "accept"}}


def test_an_address_is_shown_with_its_host_and_opened_by_nobody_but_the_person(
    open_shop: OpenShop, acme: House, signed_in: SignedIn
) -> None:
    shop = open_shop(asking())
    shop.call("ask_visit")
    page = text_of(signed_in(acme.admin), url(shop.row))
    assert "<strong>billing.example</strong>" in page
    (link,) = re.findall(r'<a [^>]*href="https://billing[^>]*>', page)
    assert 'rel="noopener noreferrer"' in link
    assert 'target="_blank"' in link
    assert "I have done it" in page


# --- arguments and results ------------------------------------------------------------------------------------------


def test_arguments_and_result_are_opened_on_demand_and_each_read_is_audited(
    shop: Shop, acme: House, signed_in: SignedIn
) -> None:
    shop.call("echo", {"text": "hush <script>alert(1)</script>"})
    client = signed_in(acme.auditor)
    assert "hush" not in text_of(client, url(shop.row))
    assert reads() == 0
    page = text_of(client, url(shop.row, "contents"))
    assert page.count("hush &lt;script&gt;") == 2
    assert "<script>alert" not in page
    event = AuditEvent.objects.get(action="call.read")
    assert (event.actor, event.object_id) == ("auditor@acme.example", str(shop.row.pk))


def test_a_page_that_follows_its_call_is_one_read_of_each_person(
    shop: Shop, acme: House, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.call("echo", {"text": "hush"})
    for person in (acme.auditor, acme.admin):
        client = signed_in(person)
        for _ in range(3):
            assert "hush" in text_of(client, url(shop.row, "contents"))
    events = AuditEvent.objects.filter(action="call.read")
    assert sorted(event.actor for event in events) == ["admin@acme.example", "auditor@acme.example"]
    first = shop.row
    shop.call("echo", {"text": "another"})
    text_of(client, url(Call.objects.exclude(pk=first.pk).get(), "contents"))
    assert reads() == 3
    monkeypatch.setattr(disclosure, "SAME_READ", timedelta(0))
    text_of(client, url(first, "contents"))
    assert reads() == 4


def test_a_large_content_is_downloaded_from_the_page(open_shop: OpenShop, acme: House, signed_in: SignedIn) -> None:
    shop = open_shop()
    shop.call("echo", {"text": "x" * (contents.LARGE + 1)})
    client = signed_in(acme.admin)
    page = text_of(client, url(shop.row, "contents"))
    link = f"/admin/tools/call/{shop.row.pk}/contents/1/"
    assert link in page
    answer = client.get(link)
    assert answer.content == b"x" * (contents.LARGE + 1)
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert client.get(f"/admin/tools/call/{shop.row.pk}/contents/2/").status_code == 404


def test_an_image_is_named_and_not_shown(shop: Shop, acme: House, signed_in: SignedIn) -> None:
    shop.call("echo", {"text": "x"})
    image = {"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}
    shown = {"content": [image], "structured_content": None, "is_error": False}
    Call.objects.update(sealed_result=shop.row.seal(shown))
    page = text_of(signed_in(acme.admin), url(shop.row, "contents"))
    assert "image/png, 6 bytes, not shown" in page
    assert "aGVsbG8" not in page


def test_what_can_no_longer_be_opened_is_said_so(shop: Shop, acme: House, signed_in: SignedIn) -> None:
    shop.call("echo", {"text": "x"})
    Call.objects.update(sealed_arguments="v1.broken")
    assert "can no longer be opened" in text_of(signed_in(acme.admin), url(shop.row, "contents"))


# --- the life of a call ---------------------------------------------------------------------------------------------


def test_the_page_asks_how_the_call_goes_on(waiting: Call, acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    before = client.get(url(waiting, "life")).json()
    assert (before["state"]["code"], before["live"]) == ("awaiting_approval", True)
    said(client, url(waiting, "approve"))
    life.resume(waiting.pk)
    after = client.get(url(waiting, "life")).json()
    assert (after["state"]["label"], after["live"], after["sentence"]) == ("Succeeded", False, "The tool has answered.")
    assert [event["label"] for event in after["events"]] == ["Awaiting approval", "Queued", "Running", "Succeeded"]
    assert after["stamp"] != before["stamp"]
    assert "venus" not in json.dumps(after)


def test_an_open_call_is_cancelled_on_its_page(waiting: Call, acme: House, signed_in: SignedIn) -> None:
    client = signed_in(acme.admin)
    said(client, url(waiting, "cancel"))
    waiting.refresh_from_db()
    assert waiting.state == "cancelled"
    assert "had ended already" in said(client, url(waiting, "cancel"))
    assert AuditEvent.objects.filter(action="call.cancelled").count() == 1


def test_the_tools_hints_are_told_as_words(open_shop: OpenShop, acme: House, signed_in: SignedIn) -> None:
    box = Toolbox()
    box.add("wipe", lambda _, __: None, input_schema=schema(), annotations={"destructiveHint": True})
    shop = open_shop(box)
    shop.set_tool("wipe", policy="ask")
    shop.call("wipe", headers=AT_ONCE)
    assert "may destroy" in text_of(signed_in(acme.admin), url(shop.row))


# --- the start page -------------------------------------------------------------------------------------------------


def test_the_start_page_names_the_calls_that_wait_for_an_admin(
    waiting: Call, acme: House, rival: House, signed_in: SignedIn
) -> None:
    page = text_of(signed_in(acme.admin), "/admin/")
    assert "Needs you" in page
    assert url(waiting) in page
    for other in (acme.member, acme.auditor, rival.admin):
        assert "Needs you" not in text_of(signed_in(other), "/admin/")
    life.refuse(waiting, by="ada", reason="")
    assert "Needs you" not in text_of(signed_in(acme.admin), "/admin/")


def test_calls_are_filtered_by_their_new_states(acme: House, signed_in: SignedIn) -> None:
    Tenant.objects.filter(pk=acme.tenant.pk).update(decision_hours=1)
    call = Call.objects.create(
        tenant=acme.tenant, tool_name="orders__ship", state="awaiting_approval", sealed_arguments="",
        waits_until=timezone.now(),
    )  # fmt: skip
    client = signed_in(acme.admin)
    assert str(call.pk) in text_of(client, "/admin/tools/call/?state__exact=awaiting_approval")
    assert str(call.pk) not in text_of(client, "/admin/tools/call/?state__exact=queued")

"""What is wrong with connections is told in bulletins: once, together, and no longer when it is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Bulletin, Connection, Matter, Tenant, User
from connections.notices import delivering, matters
from connections.states import ReachabilityState
from tests import reading
from tests.conftest import PASSWORD, House
from tests.servers.fixtures import StartReceiver
from tests.servers.mail import MailServer
from tests.servers.receiver import Receiver
from tests.telling import find, later, send, tell
from tools import tasks
from tools.catalog import probing

SERVER = "https://mcp.example.com"


def subscribed(house: House, receiver: Receiver) -> str:
    """Set the organization's webhook and return its secret."""
    house.tenant.webhook_url = receiver.url
    house.tenant.save()
    return house.tenant.make_webhook_secret()


def several(house: House, number: int, server: str = SERVER, start: int = 0) -> list[Connection]:
    return [house.connection(f"Orders {count}", f"{server}/{count}/mcp") for count in range(start, start + number)]


def set_state(state: ReachabilityState, *connections: Connection) -> None:
    """Have checks found this, three times by now."""
    failed = 3 if state == ReachabilityState.UNREACHABLE else 0
    for connection in connections:
        connection.refresh_from_db()
        connection.set_reachability(state, "connect_failed" if failed else "", "m4rk" if failed else "")
        Connection.objects.filter(pk=connection.pk).update(probe_failures=failed)


def go_down(*connections: Connection) -> None:
    set_state(ReachabilityState.UNREACHABLE, *connections)


def come_back(*connections: Connection) -> None:
    set_state(ReachabilityState.REACHABLE, *connections)


def subjects(mail_server: MailServer) -> list[str]:
    return [str(message["Subject"]) for _, message in mail_server.taken]


def test_a_server_that_is_away_is_told_after_three_checks_and_three_minutes(
    acme: House, mail_server: MailServer, mcp_server: Any
) -> None:
    connection = acme.connection(url="http://127.0.0.1:9/mcp")  # nothing listens there
    for _ in range(3):
        assert mail_server.taken == []
        assert (report := probing.probe(connection.pk)) is not None
        assert report.outcome == "failed"
        tell(minutes=2)
    assert subjects(mail_server) == ["Orders (acme): the server cannot be reached"]
    text = mail_server.taken[0][1].get_content()
    assert f"/admin/connections/connection/{connection.pk}/change/" in text
    assert "You get this mail because you are an admin of acme." in text
    tell(days=1)
    assert len(mail_server.taken) == 1


def test_a_server_that_is_away_for_two_minutes_is_not_told(acme: House) -> None:
    go_down(*several(acme, 1))
    tell(minutes=1)
    assert not Matter.objects.exists()


def test_an_outage_of_one_server_is_one_message_for_forty_connections_and_so_is_its_end(
    acme: House, mail_server: MailServer, webhook_receiver: StartReceiver
) -> None:
    receiver = webhook_receiver()
    secret = subscribed(acme, receiver)
    rows = several(acme, 40)
    go_down(*rows[:25])
    tell(minutes=4)
    go_down(*rows[25:])  # whose checks came later
    tell(minutes=10)
    tell(minutes=10)
    assert subjects(mail_server) == ["acme: 25 connections cannot be reached"]
    assert [message["type"] for message in receiver.messages] == ["connection.unreachable"]
    assert Matter.objects.open().count() == 40
    come_back(*rows[:39])
    tell(minutes=10)
    assert len(mail_server.taken) == 1
    come_back(rows[39])
    tell(minutes=10)
    tell(minutes=10)
    assert subjects(mail_server)[1:] == ["acme: 40 connections can be reached again"]
    assert [message["type"] for message in receiver.messages] == ["connection.unreachable", "connection.recovered"]
    assert receiver.verified(secret) == [True, True]
    data = receiver.messages[1]["data"]
    assert (data["organization"], data["count"], len(data["items"])) == ("acme", 40, 40)
    assert {item["connection_id"] for item in data["items"]} == {str(row.pk) for row in rows}
    assert not Matter.objects.open().exists()


def test_two_servers_of_which_one_comes_back(acme: House, mail_server: MailServer) -> None:
    [one] = several(acme, 1)
    [other] = several(acme, 1, "https://other.example.com", start=1)
    go_down(one, other)
    tell(minutes=4)
    come_back(other)
    tell(minutes=10)
    assert subjects(mail_server) == [
        "acme: 2 connections cannot be reached",
        "Orders 1 (acme): the server can be reached again",
    ]


def test_a_server_that_is_back_for_a_moment_is_still_away(acme: House, mail_server: MailServer) -> None:
    [row] = several(acme, 1)
    go_down(row)
    tell(minutes=4)
    come_back(row)
    find()
    go_down(row)
    tell(minutes=10)
    assert len(mail_server.taken) == 1


def test_what_is_back_before_anybody_heard_of_it_is_not_told(acme: House, mail_server: MailServer) -> None:
    [row] = several(acme, 1)
    go_down(row)
    later(minutes=4)
    find()
    assert Matter.objects.open().exists()
    come_back(row)
    later(minutes=4)
    tell()
    assert mail_server.taken == []
    assert not Matter.objects.open().exists()


def test_disabled_connections_and_suspended_organizations_are_not_told_about(
    acme: House, rival: House, mail_server: MailServer
) -> None:
    rows = several(acme, 2)
    go_down(*rows, *several(rival, 1))
    rival.tenant.suspend("Unpaid.")
    later(minutes=4)
    find()
    later(minutes=1)
    find()
    rows[0].set_enabled(False)
    send()
    assert [(address, message["Subject"]) for address, message in mail_server.taken] == [
        ("admin@acme.example", "Orders 1 (acme): the server cannot be reached")
    ]
    acme.tenant.suspend("Unpaid.")
    come_back(rows[1])
    tell(minutes=10)
    assert len(mail_server.taken) == 1


def test_tools_to_review_are_told_once_for_each_connection(acme: House, mail_server: MailServer) -> None:
    row = acme.connection(tools_state="changes_to_review", tools_since=timezone.now())
    tell(minutes=1)
    assert mail_server.taken == []  # whoever adds a connection reviews its tools at once
    tell(minutes=10)
    assert subjects(mail_server) == ["Orders (acme): tools wait for a review"]
    tell(hours=1)
    assert len(mail_server.taken) == 1
    Connection.objects.filter(pk=row.pk).update(tools_state="in_sync")
    find()
    Connection.objects.filter(pk=row.pk).update(tools_state="changes_to_review")
    tell(minutes=10)
    assert len(mail_server.taken) == 2


def test_what_comes_up_soon_after_a_bulletin_waits_for_the_next_one(acme: House, mail_server: MailServer) -> None:
    def add(*names: str) -> None:
        for name in names:
            acme.connection(name, tools_state="changes_to_review", tools_since=timezone.now() - timedelta(hours=1))

    add("Orders")
    tell()
    add("Billing", "Warehouse")
    tell()
    assert subjects(mail_server) == ["Orders (acme): tools wait for a review"]
    tell(minutes=5)
    assert subjects(mail_server)[1:] == ["acme: tools of 2 connections wait for a review"]


def test_two_runs_at_once_make_one_bulletin(acme: House) -> None:
    go_down(*several(acme, 3))
    later(minutes=5)
    find()
    find()
    later(minutes=1)
    now = timezone.now()
    matters.gather(now)
    matters.gather(now)
    assert (Bulletin.objects.count(), Matter.objects.count()) == (1, 3)


def test_beat_has_it_found_gathered_and_sent(acme: House, broker: redis.Redis) -> None:
    go_down(*several(acme, 2))
    later(minutes=5)
    tasks.dispatch_bulletins()
    assert not Bulletin.objects.exists()
    later(minutes=1)
    tasks.dispatch_bulletins()
    asked = [arguments for _, arguments in reading.messages(broker, "probes")]
    assert {"bulletin_id": str(Bulletin.objects.get().pk)} in asked


def test_a_receiver_that_fails_gets_the_same_message_again_until_it_takes_it(
    acme: House, webhook_receiver: StartReceiver, mail_server: MailServer
) -> None:
    receiver = webhook_receiver(statuses=[503])
    secret = subscribed(acme, receiver)
    go_down(*several(acme, 2))
    tell(minutes=5)
    bulletin = Bulletin.objects.get()
    assert bulletin.trouble == "Webhook: The webhook's receiver answered with HTTP status 503."
    send()  # not before its time
    assert len(receiver.requests) == 1
    later(minutes=2)
    send()
    assert receiver.verified(secret) == [True, True]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    bulletin.refresh_from_db()
    assert (bulletin.attempts, bulletin.deliver_at, bulletin.trouble) == (2, None, "")
    assert len(mail_server.taken) == 1


def test_after_eight_tries_it_is_given_up_and_written_down(
    acme: House, webhook_receiver: StartReceiver, mail_server: MailServer
) -> None:
    receiver = webhook_receiver(statuses=[500] * 20)
    subscribed(acme, receiver)
    go_down(*several(acme, 1))
    tell(minutes=5)
    for _ in range(delivering.MOST_TRIES + 2):
        Bulletin.objects.filter(deliver_at__isnull=False).update(deliver_at=timezone.now())
        send()
    assert len(receiver.requests) == delivering.MOST_TRIES
    [event] = AuditEvent.objects.filter(action="tenant.bulletin_not_delivered")
    assert (event.tenant, event.outcome) == (acme.tenant, "connection.unreachable")
    assert event.data == {"mailed": True, "webhook_taken": False, "channel_told": False}


def test_nobody_hears_of_another_organization(
    acme: House, rival: House, webhook_receiver: StartReceiver, mail_server: MailServer
) -> None:
    receiver = webhook_receiver()
    subscribed(rival, receiver)
    go_down(*several(acme, 1))
    tell(minutes=5)
    assert receiver.requests == []
    assert mail_server.readers == ["admin@acme.example"]


def test_names_cannot_add_headers_to_a_mail(acme: House, mail_server: MailServer) -> None:
    Tenant.objects.filter(pk=acme.tenant.pk).update(name="acme\r\nBcc: rival@rival.example\u202e")
    go_down(*several(acme, 1))
    tell(minutes=5)
    assert subjects(mail_server) == ["Orders 0 (acme Bcc: rival@rival.example): the server cannot be reached"]
    assert mail_server.readers == ["admin@acme.example"]


def test_a_mail_names_twenty_and_says_how_many_more_there_are(acme: House, mail_server: MailServer) -> None:
    go_down(*several(acme, 23))
    tell(minutes=5)
    text = mail_server.taken[0][1].get_content()
    assert text.count("/admin/connections/connection/") == 20
    assert "and 3 more:" in text
    assert "m4rk" not in text


@pytest.fixture
def second(acme: House) -> User:
    person = User.objects.create_user("second@acme.example", "second@acme.example", PASSWORD)
    acme.tenant.memberships.create(user=person, role="admin")
    return person


def test_each_person_chooses_what_they_are_mailed_about(
    acme: House, second: User, mail_server: MailServer, signed_in: Callable[[User | None], Client]
) -> None:
    own = f"/admin/connections/membership/{acme.membership(acme.admin).pk}/change/"
    page = signed_in(acme.admin).get(own).content.decode()
    assert "Connections that cannot be reached" in page
    answer = signed_in(acme.admin).post(own, {"role": "admin", "unmailed": ["connection.unreachable"]})
    assert answer.status_code == 302
    [row] = several(acme, 1)
    go_down(row)
    tell(minutes=5)
    assert mail_server.readers == ["second@acme.example"]
    come_back(row)
    tell(minutes=5)
    assert sorted(mail_server.readers[1:]) == ["admin@acme.example", "second@acme.example"]
    text = next(message for address, message in mail_server.taken if address == "admin@acme.example").get_content()
    assert "/admin/mails/" in text


def test_an_organization_chooses_what_its_webhook_is_sent(
    acme: House, mail_server: MailServer, webhook_receiver: StartReceiver, signed_in: Callable[[User | None], Client]
) -> None:
    receiver = webhook_receiver()
    subscribed(acme, receiver)
    form = {"name": "acme", "webhook_url": receiver.url, "retention_days": 30, "decision_hours": 24}
    page = f"/admin/connections/tenant/{acme.tenant.pk}/change/"
    answer = signed_in(acme.admin).post(page, {**form, "unposted": ["connection.unreachable"]})
    assert answer.status_code == 302
    go_down(*several(acme, 1))
    tell(minutes=5)
    assert receiver.requests == []
    assert len(mail_server.taken) == 1
    signed_in(acme.admin).post(page, form)
    go_down(*several(acme, 1, "https://other.example.com", start=1))
    tell(minutes=10)
    assert [message["type"] for message in receiver.messages] == ["connection.unreachable"]


def test_a_kind_that_does_not_exist_cannot_be_chosen(acme: House, signed_in: Callable[[User | None], Client]) -> None:
    own = f"/admin/connections/membership/{acme.membership(acme.admin).pk}/change/"
    answer = signed_in(acme.admin).post(own, {"role": "admin", "unmailed": ["everything"]})
    assert answer.status_code == 200
    assert acme.membership(acme.admin).unmailed == []

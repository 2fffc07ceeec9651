"""From an empty installation to an organization with an admin: the address that is printed, and what it leads to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from connections.models import AuditEvent, Invitation, Membership, Tenant, User
from connections.people import starting
from tests.conftest import PASSWORD, House
from tests.connections.people.links import NEW, heading, path_of

pytestmark = [pytest.mark.django_db, pytest.mark.smoke]

SignedIn = Callable[[User | None], Client]
ADA = "ada@acme.example"
ADD = "/admin/connections/connection/add/"


def first_link() -> str:
    address = starting.first_address(timezone.now())
    assert address is not None
    return path_of(address)


def start(email: str = ADA, organization: str = "Acme") -> str:
    said = StringIO()
    call_command("start", email=email, organization=organization, stdout=said)
    return said.getvalue()


def printed(said: str) -> str:
    return path_of(next(line for line in said.splitlines() if "?key=" in line))


def test_the_first_person_makes_an_account_and_an_organization_and_sees_what_comes_next() -> None:
    link, ada = first_link(), Client()
    page = ada.get(link)
    assert heading(page.content) == "You"
    assert 'aria-current="step">You' in page.content.decode()
    answer = ada.post(link, NEW | {"email": "Ada@acme.example"})
    assert (answer.status_code, answer["Location"]) == (302, "/start/")
    person = User.objects.get()
    assert (person.username, person.email, person.is_superuser) == (ADA, ADA, True)
    page = ada.get("/start/")
    assert 'aria-current="step">Your organization' in page.content.decode()
    home = ada.post("/start/", {"name": "Acme"}, follow=True)
    assert home.redirect_chain == [("/admin/", 302)]
    assert 'href="/admin/connections/connection/add/">Add a connection' in home.content.decode()
    tenant = Tenant.objects.get()
    assert (tenant.name, tenant.memberships.get().role, tenant.memberships.get().user) == ("Acme", "admin", person)
    assert {event.action for event in AuditEvent.objects.all()} == {
        "user.became_superuser", "user.signed_in", "tenant.created", "membership.created",
    }  # fmt: skip


def test_the_first_steps_tick_themselves_and_go_away(acme: House, signed_in: SignedIn) -> None:
    admin = signed_in(acme.admin)

    def steps() -> str:
        page = admin.get("/admin/").content.decode()
        return page[page.find("first-steps-heading") :][:2500] if "first-steps-heading" in page else ""

    assert "Add a connection" in steps()
    acme.connection("Orders")
    assert "Add an assignment" in steps()
    assignment = acme.assignment("Nightly")
    assert "Open Nightly" in steps()
    acme.token(assignment)
    assert "Call a tool with the token of" in steps()
    assignment.access_tokens.update(last_used_at=timezone.now())
    assert steps() == ""
    assert "first-steps-heading" not in signed_in(acme.member).get("/admin/").content.decode()


def test_the_first_address_works_once_and_only_while_nobody_is_there() -> None:
    older, link = first_link(), first_link()
    assert Client().get(older).status_code == 404
    assert Invitation.objects.count() == 1
    Client().post(link, NEW | {"email": ADA})
    assert Client().get(link).status_code == 410
    assert starting.first_address(timezone.now()) is None
    assert User.objects.count() == 1


def test_the_first_address_opens_nothing_once_somebody_looks_after_the_installation(superuser: User) -> None:
    User.objects.all().delete()
    link = first_link()
    User.objects.create_superuser("root", "root@duvo.example", PASSWORD)
    assert Client().post(link, NEW | {"email": ADA}).status_code == 404
    assert User.objects.count() == 1


def test_the_first_address_ends_after_a_week_and_the_next_start_prints_another() -> None:
    link = first_link()
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    answer = Client().get(link)
    assert (answer.status_code, heading(answer.content)) == (410, "This link has expired")
    assert "prints a new one" in answer.content.decode()
    assert Client().get(first_link()).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [("email", "ada"), ("email", ""), ("name", ""), ("password1", ""), ("password2", "other horse battery staple")],
)
def test_what_makes_no_sense_is_said_beside_its_field_and_the_link_goes_on_working(field: str, value: str) -> None:
    link = first_link()
    answer = Client().post(link, NEW | {"email": ADA, field: value})
    assert answer.status_code == 200
    assert field in answer.context["form"].errors
    assert PASSWORD not in answer.content.decode()
    assert Client().post(link, NEW | {"email": ADA}).status_code == 302


@pytest.mark.parametrize("password", ["password", "12345678", "short", "ada@acme.example", "Bea Bright"])
def test_a_password_that_is_guessed_first_is_refused(password: str) -> None:
    form = NEW | {"email": ADA, "password1": password, "password2": password}
    answer = Client().post(first_link(), form)
    assert "password2" in answer.context["form"].errors
    assert not User.objects.exists()


# --- manage.py start ---


def test_start_prints_an_address_that_makes_an_admin_and_the_first_superuser() -> None:
    said = start()
    assert said.startswith("ada@acme.example becomes an admin of Acme at this address")
    ada = Client()
    assert heading(ada.get(printed(said)).content) == "Join Acme"
    assert ada.post(printed(said), NEW)["Location"] == "/admin/"
    person = User.objects.get()
    assert (person.username, person.is_superuser, person.memberships.get().role) == (ADA, True, "admin")


def test_start_can_be_run_again_and_makes_nothing_twice() -> None:
    first, second = start(), start(email="ADA@acme.example")
    assert (Tenant.objects.count(), Invitation.objects.count()) == (1, 1)
    assert Client().get(printed(first)).status_code == 404
    Client().post(printed(second), NEW)
    assert start().startswith("ada@acme.example is an admin of Acme already, and signs in at\n\n    http")
    assert start(organization="acme").startswith("ada@acme.example is an admin of Acme already")
    assert (Tenant.objects.count(), Invitation.objects.count(), User.objects.count()) == (1, 1, 1)


def test_only_the_first_that_starts_becomes_a_superuser(superuser: User) -> None:
    Client().post(printed(start()), NEW)
    assert not User.objects.get(username=ADA).is_superuser


def test_start_invites_somebody_who_has_an_account_to_sign_in_with_it(acme: House, rival: House) -> None:
    said = start(email=rival.admin.email, organization="acme")
    assert "has an account already" in Client().get(printed(said)).content.decode()


@pytest.mark.parametrize(("email", "organization"), [("ada", "Acme"), (ADA, ""), (ADA, "x" * 101), (ADA, "A\u200bcme")])
def test_start_refuses_what_is_no_address_or_no_name(email: str, organization: str) -> None:
    with pytest.raises(CommandError):
        start(email, organization)
    assert not Tenant.objects.exists()


def test_start_asks_which_of_two_of_one_name_is_meant(db: None) -> None:
    Tenant.objects.create(name="Acme")
    Tenant.objects.create(name="Acme")
    with pytest.raises(CommandError, match="Several organizations have this name"):
        start()
    assert start(organization="acme-2").startswith("ada@acme.example becomes an admin of Acme")


# --- a superuser and nothing else ---


@pytest.mark.parametrize("path", ["/admin/", ADD, "/admin/tools/assignment/add/", "/admin/connections/invitation/add/"])
def test_a_superuser_without_any_organization_is_led_to_found_one(
    superuser: User, signed_in: SignedIn, path: str
) -> None:
    answer = signed_in(superuser).get(path, follow=True)
    assert answer.redirect_chain == [("/start/", 302)]
    assert heading(answer.content) == "Your organization"
    assert "All organizations</a>" not in answer.content.decode()
    assert path == "/admin/" or "There is no organization yet" in answer.content.decode()


def test_founding_is_for_superusers_who_belong_nowhere(
    acme: House, superuser: User, reviewer: User, signed_in: SignedIn
) -> None:
    for person, status in ((superuser, 200), (acme.admin, 403), (acme.member, 403), (reviewer, 403), (None, 302)):
        assert signed_in(person).get("/start/").status_code == status
        if person != superuser:
            assert signed_in(person).post("/start/", {"name": "Mine"}).status_code == status
    assert not Tenant.objects.filter(name="Mine").exists()
    Membership.objects.create(user=superuser, tenant=acme.tenant, role="admin")
    assert signed_in(superuser).post("/start/", {"name": "Mine"})["Location"] == "/admin/"
    assert not Tenant.objects.filter(name="Mine").exists()


def test_a_connection_without_a_chosen_organization_is_refused_in_one_sentence(
    acme: House, rival: House, signed_in: SignedIn
) -> None:
    Membership.objects.create(user=acme.admin, tenant=rival.tenant, role="admin")
    form = {"name": "Orders", "server_url": "https://8.8.8.8/mcp", "authorization": "none", "enabled": "on"}
    answer: Any = signed_in(acme.admin).post(ADD, form)
    errors = answer.context["adminform"].form.errors
    assert errors == {"tenant": ["Choose the organization that it is to belong to."]}


def test_add_organization_takes_its_own_defaults(superuser: User, signed_in: SignedIn) -> None:
    client = signed_in(superuser)
    page = client.get("/admin/connections/tenant/add/")
    shown = page.context["adminform"].form
    sent = {field.html_name: field.value() for field in shown if field.value() not in (None, [])}
    answer: Any = client.post("/admin/connections/tenant/add/", sent | {"name": "Acme"})
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    only_the_name: Any = client.post("/admin/connections/tenant/add/", {"name": "Rival"})
    assert only_the_name.status_code == 302, only_the_name.context["adminform"].form.errors
    for tenant in Tenant.objects.all():
        assert (tenant.retention_days, tenant.decision_hours, tenant.max_stored) == (30, 24, 5_000)


def test_add_user_asks_for_an_address(superuser: User, signed_in: SignedIn) -> None:
    client = signed_in(superuser)
    form = {"username": "bob", "email": "bob@acme.example", "password1": PASSWORD, "password2": PASSWORD}
    assert client.post("/admin/connections/user/add/", form | {"usable_password": "true"}).status_code == 302
    assert User.objects.get(username="bob").email == "bob@acme.example"

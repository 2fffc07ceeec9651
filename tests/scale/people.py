"""Who looks: people with their browsers, and programs with their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.test import Client

HOST = "127.0.0.1"


@dataclass
class Looker:
    """One of them, with what every request of theirs carries."""

    name: str
    client: Client
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, address: str) -> Any:
        """Ask for a page."""
        return self.client.get(address, headers=self.headers)


def browsers() -> list[Looker]:
    """Return an admin of the first organization, a reviewer and a superuser."""
    from connections.models import User

    def sign_in(name: str, user: User) -> Looker:
        looker = Looker(name, Client(SERVER_NAME=HOST))
        looker.client.force_login(user)
        return looker

    reviewer = User.objects.get_or_create(username="reviewer@example.com", is_reviewer=True)[0]
    superuser = User.objects.get_or_create(username="superuser@example.com", is_superuser=True)[0]
    admin = User.objects.get(username="person-00000@example.com")
    return [sign_in("admin", admin), sign_in("reviewer", reviewer), sign_in("superuser", superuser)]


def programs() -> list[Looker]:
    """Return an admin's program, and the assignments of the first organization with the most and the fewest calls."""
    from connections.models import Membership, Tenant
    from tools.models import AccessToken, Assignment

    first = Tenant.objects.get(slug="company-0000")
    admin = Membership.objects.get(tenant=first, role="admin")
    few = Assignment.objects.filter(tenant=first).order_by("name")
    named = {"busiest": few.get(name="Assignment 0"), "quiet": few.get(name="Assignment 59")}
    tokens = {name: AccessToken.issue(assignment=row, by=admin.user)[1] for name, row in named.items()}
    tokens["admin"] = AccessToken.issue(membership=admin)[1]
    return [
        Looker(f"{name}'s", Client(SERVER_NAME=HOST), {"Authorization": f"Bearer {token}"})
        for name, token in tokens.items()
    ]

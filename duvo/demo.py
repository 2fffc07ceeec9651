"""The demo: two organizations, two connections, an assignment, and calls over HTTP. Each step prints its result."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from connections import names
from connections.forms import ConnectionForm
from connections.models import Authorization, Connection, Era, Membership, Role, Tenant, User
from connections.states import CredentialState
from duvo import processes, sample_consent
from duvo.demo_browser import Browser, BrowserError, send
from tools.models import AccessToken, Assignment, Probe

T = TypeVar("T")

PATIENCE = 60  # seconds for a probe or a call
ORGANIZATIONS = ("Acme", "Globex")
CONNECTION = "Orders"
SIGNED_IN = "Warehouse"
REMEMBERING = "Cart"


class DemoFailed(Exception):
    """A step of the demo failed; the message says which and how."""


@dataclass(frozen=True)
class Sample:
    """Where the sample MCP servers are: the one with a key, and the one that people sign in to."""

    url: str
    api_key: str
    sign_in_url: str


@dataclass
class Story:
    """The steps of the demo against the stack on `port`; each line goes to `say`."""

    port: int
    sample: Sample
    say: Callable[[str], None]
    stays: bool = True  # whether there is anything to sign in to afterwards
    step: int = 0

    def tell(self) -> None:
        """Take every step; raises DemoFailed at the first that fails."""
        passwords = self.people()
        acme, globex = (Tenant.objects.get(slug=names.slug_of(name)) for name in ORGANIZATIONS)
        self.wait_for_report(self.connect(acme))
        token = self.assign(acme)
        self.list_tools(token)
        self.call_tools(token)
        self.call_in_background(token)
        self.try_from_outside(globex)
        self.shop_in_sessions(acme, token)
        warehouse = self.connect_with_oauth(acme)
        self.sign_in(warehouse, passwords)
        self.call_as_person(token)
        self.say("\nEvery step worked.")
        if self.stays:
            self.say_where_to_go_on(passwords, warehouse)

    def people(self) -> dict[str, str]:
        """Make the organizations, an admin of each and the reviewer; return new passwords by user name."""
        self._step("Two organizations, an admin each, and a reviewer of the platform")
        passwords: dict[str, str] = {}
        for name in ORGANIZATIONS:
            tenant, _ = Tenant.objects.get_or_create(slug=names.slug_of(name), defaults={"name": name})
            user, password = _person(f"admin@{name.lower()}.example")
            passwords |= password
            Membership.objects.get_or_create(user=user, tenant=tenant, defaults={"role": Role.ADMIN})
            self.say(f"  {name}: {user.get_username()}")
        reviewer, password = _person("reviewer@duvo.example", is_reviewer=True)
        self.say(f"  Reviewer: {reviewer.get_username()}")
        return passwords | password

    def connect(self, tenant: Tenant) -> Probe:
        """Fill in the connection form as the organization's admin; return the check that it starts."""
        self._step(f"{tenant}'s admin adds the connection “{CONNECTION}” to {self.sample.url}")
        entered = {
            "name": CONNECTION,
            "server_url": self.sample.url,
            "authorization": Authorization.API_KEY,
            "api_key": self.sample.api_key,
        }
        return self._save(tenant, entered)

    def _save(self, tenant: Tenant, entered: dict[str, Any]) -> Probe:
        before = tenant.connections.filter(name=entered["name"]).first()
        data = (ConnectionForm.data_of(before) if before else {}) | entered | {"enabled": True}
        admin = User.objects.get(memberships__tenant=tenant, username=_admin_of(tenant))
        form = ConnectionForm(data, instance=before, tenant=tenant, user=admin)
        if not form.is_valid():
            raise DemoFailed(f"The form refuses: {form.errors.as_text()}")
        asked_at = timezone.now()
        connection = form.save()
        self.say("  Saved; its secret is sealed, its check is asked for." if "api_key" in entered else "  Saved.")
        return self._check_since(connection, asked_at)

    def _check_since(self, connection: Connection, moment: datetime) -> Probe:
        return self._until(
            lambda: connection.probes.filter(started_at__gte=moment).order_by("started_at").first(),
            "No worker took the check.",
        )

    def wait_for_report(self, probe: Probe) -> None:
        """Print the stages of the check as a worker adds them; it must pass."""
        self._step("A worker checks the connection")
        self.say(f"  Status: {self._watch(probe).headline.label}")
        self._check(probe.outcome == Probe.Outcome.PASSED, f"The check failed: {probe.reason}.")

    def _watch(self, probe: Probe) -> Connection:
        shown = 0
        deadline = time.monotonic() + PATIENCE
        while True:
            probe.refresh_from_db()
            for stage in probe.stages[shown:]:
                self.say(f"  {stage['stage']:<14} {stage['outcome']:<8} {stage['sentence']}")
            shown = len(probe.stages)
            if probe.outcome != Probe.Outcome.RUNNING:
                break
            self._check(time.monotonic() < deadline, "The check did not end.")
            time.sleep(0.1)
        return Connection.objects.get(pk=probe.connection_id)

    def assign(self, tenant: Tenant) -> str:
        """Make an assignment with a token, and return the token."""
        self._step("An assignment gets a token, shown once")
        admin = User.objects.get(username=_admin_of(tenant))
        owned = {"owner": admin}
        assignment, _ = Assignment.objects.get_or_create(tenant=tenant, name="Nightly orders", defaults=owned)
        token = AccessToken.issue(assignment=assignment, label="demo", by=admin)[1]
        self.say(f"  {assignment}: {token}")
        return token

    def list_tools(self, token: str) -> None:
        """List the assignment's tools over HTTP."""
        self._step("GET /v1/tools")
        status, body = self.ask("GET", "/v1/tools", token)
        self._check(status == http.client.OK and bool(body["results"]), f"It answered {status}: {body}")
        for tool in body["results"]:
            self.say(f"  {tool['name']:<26} {tool['description']}")

    def call_tools(self, token: str) -> None:
        """Call a tool of each kind over HTTP: one that reads, one that writes, one that draws, one that fails."""
        order = self.call(token, "place_order", {"sku": "TEA-001", "quantity": 20})["structured_content"]
        self._check(order["total"] == 250, f"The order has another total: {order}")  # noqa: PLR2004 - 20 at 12.50
        stock = self.call(token, "get_stock", {"sku": "TEA-001"})["structured_content"]
        self._check(stock["reserved"] == order["quantity"], f"The order is not in the stock: {stock}")
        image = self.call(token, "product_image", {"sku": "CUP-001"})["content"][0]
        self._check(image["type"] == "image", f"No image came: {image}")
        self.call(token, "cancel_order", {"number": order["number"]})
        failed = self.call(token, "export_ledger", {"year": 2026})
        self._check(failed["is_error"], f"The tool that fails did not: {failed}")

    def call(self, token: str, tool: str, arguments: dict[str, Any], *, of: str = CONNECTION) -> dict[str, Any]:
        """Call one tool of a connection and wait for its result."""
        name = f"{of.lower()}__{tool}"
        self._step(f"POST /v1/tools/{name}/call {json.dumps(arguments)}")
        status, body = self.ask("POST", f"/v1/tools/{name}/call", token, {"arguments": arguments})
        self._check(status == http.client.OK, f"It answered {status}: {body}")
        self.say(f"  {body['state']}: {_shown(body)}")
        return body

    def call_in_background(self, token: str) -> None:
        """Have a slow tool called by a worker, and ask for the result later."""
        name = f"{CONNECTION.lower()}__stock_report"
        self._step(f"POST /v1/tools/{name}/call, Prefer: respond-async")
        body: dict[str, Any] = {"arguments": {"seconds": 2}}
        status, body = self.ask("POST", f"/v1/tools/{name}/call", token, body, prefer="respond-async")
        self._check(status == http.client.ACCEPTED, f"It answered {status}: {body}")
        self.say(f"  {status} Accepted: {body['state']}, see /v1/calls/{body['id']}")

        def finished() -> dict[str, Any] | None:
            call = self.ask("GET", f"/v1/calls/{body['id']}", token)[1]
            return call if call.get("finished_at") else None

        call = self._until(finished, "The call did not end.")
        self._check(call["state"] == "succeeded", f"The call ended as {call}")
        self.say(f"  {call['state']}: {_shown(call)}")

    def try_from_outside(self, tenant: Tenant) -> None:
        """Ask for the tool as another organization; for it there is no such tool."""
        self._step(f"An assignment of {tenant} asks for {ORGANIZATIONS[0]}'s tool")
        assignment, _ = Assignment.objects.get_or_create(tenant=tenant, name="Curious")
        token = AccessToken.issue(assignment=assignment, label="demo")[1]
        status, body = self.ask("POST", f"/v1/tools/{CONNECTION.lower()}__get_stock/call", token, {"arguments": {}})
        self._check(status == http.client.NOT_FOUND, f"It answered {status}: {body}")
        self.say(f"  {status}: {body['detail']}")

    def shop_in_sessions(self, tenant: Tenant, token: str) -> None:
        """Fill two carts at a server that remembers, each in a session of its own, and end the sessions."""
        self._step(f"{tenant}'s admin adds “{REMEMBERING}”: the same server as of 2025-11-25, when it had sessions")
        entered = {"name": REMEMBERING, "server_url": self.sample.url, "era_choice": Era.LEGACY}
        entered |= {"authorization": Authorization.API_KEY, "api_key": self.sample.api_key}
        self._watch(self._save(tenant, entered))
        put = f"{REMEMBERING.lower()}__put_into_cart"
        self._until(lambda: put in str(self.ask("GET", "/v1/tools", token)) or None, f"{put} is not offered.")
        carts = {
            "ann": [self.put_into_cart(token, "ann", sku) for sku in ("TEA-001", "CUP-001")][-1],
            "bob": self.put_into_cart(token, "bob", "POT-001"),
        }
        self._check(len(carts["ann"]) == 2 and len(carts["bob"]) == 1, f"The carts are mixed up: {carts}")  # noqa: PLR2004 - Ann's two
        for name in carts:
            self._step(f"DELETE /v1/sessions/{name}")
            status, body = self.ask("DELETE", f"/v1/sessions/{name}", token)
            self._check(status == http.client.NO_CONTENT, f"It answered {status}: {body}")
            self.say(f"  {status}: the server forgets {name.title()}'s cart")

    def put_into_cart(self, token: str, session: str, sku: str) -> list[str]:
        """Put an article into the cart of a session and return what is in it."""
        name = f"{REMEMBERING.lower()}__put_into_cart"
        self._step(f"POST /v1/tools/{name}/call, Duvo-Session: {session}, {sku}")
        body: dict[str, Any] = {"arguments": {"sku": sku}}
        status, body = self.ask("POST", f"/v1/tools/{name}/call", token, body, session=session)
        self._check(status == http.client.OK, f"It answered {status}: {body}")
        cart: list[str] = body["structured_content"]["result"]
        self.say(f"  {session.title()}'s cart: {', '.join(cart)}")
        return cart

    def connect_with_oauth(self, tenant: Tenant) -> Connection:
        """Add a connection that somebody has to sign in to; its check says so."""
        self._step(f"{tenant}'s admin adds the connection “{SIGNED_IN}” to {self.sample.sign_in_url}, with OAuth")
        entered = {"name": SIGNED_IN, "server_url": self.sample.sign_in_url, "authorization": Authorization.OAUTH}
        connection = self._watch(self._save(tenant, entered))
        state = CredentialState(connection.credential_state)
        self.say(f"  {state.label}: {connection.credential_sentence} {connection.next_step}")
        self._check(state == CredentialState.NEEDS_SIGN_IN, "The check does not ask for a sign-in.")
        return connection

    def sign_in(self, connection: Connection, passwords: dict[str, str]) -> None:
        """Press Sign in as the admin's browser does, and allow the access as Ada."""
        name = _admin_of(connection.tenant)
        address = _page_of(connection)
        browser = Browser(home=self._site, public_url=settings.PUBLIC_URL)
        self._step(f"{name} signs in to the admin, opens “{connection.name}” and presses Sign in")
        asked_at = timezone.now()
        try:
            page = browser.submit(
                browser.open(address), reverse("admin:login"), username=name, password=passwords[name]
            )
            page = browser.submit(page, reverse("oauth:sign_in", args=[connection.pk]))
            self.say(f"  The provider asks for consent at {page.url.partition('?')[0]}")
            page = browser.submit(page, sample_consent.PATH, person="ada", decision="allow")
        except BrowserError as error:
            raise DemoFailed(f"Step {self.step} failed. {error}") from error
        self._check(
            urlsplit(page.url).path == address, f"The sign-in was not completed at {page.url.partition('?')[0]}."
        )
        self.say("  Ada allows it; the browser is back on the connection's page.")
        self.wait_for_report(self._check_since(connection, asked_at))

    def call_as_person(self, token: str) -> None:
        """Call a tool that knows who is signed in."""
        name = f"{SIGNED_IN.lower()}__who_am_i"
        self._until(lambda: name in str(self.ask("GET", "/v1/tools", token)) or None, f"{name} is not offered.")
        person = self.call(token, "who_am_i", {}, of=SIGNED_IN)["structured_content"]
        self._check(person["name"] == "Ada", f"Somebody else is signed in: {person}")

    def say_where_to_go_on(self, passwords: dict[str, str], connection: Connection) -> None:
        """Print the passwords, and what to try."""
        self.say(f"Sign in at {self._site}/admin/ (passwords of this run):")
        for name, password in passwords.items():
            self.say(f"  {name:<24} {password}")
        self.say(f"Press Sign out, and Sign in as Ada or Grace, at {self._site}{_page_of(connection)}")

    def ask(
        self, method: str, path: str, token: str, body: Any = None, *, prefer: str = "", session: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Send one request to the product over HTTP, as a program would."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        headers |= {"Prefer": prefer} if prefer else {}
        headers |= {"Duvo-Session": session} if session else {}
        try:
            answer = send(method, self._site + path, "" if body is None else json.dumps(body), headers)
            return answer.status, json.loads(answer.text or "{}")
        except (BrowserError, ValueError) as error:
            raise DemoFailed(f"{method} {path} got no answer.") from error

    @property
    def _site(self) -> str:
        return f"http://{processes.HOST}:{self.port}"

    def _step(self, sentence: str) -> None:
        self.step += 1
        self.say(f"\n{self.step}. {sentence}")

    def _check(self, fact: bool, sentence: str) -> None:
        if not fact:
            raise DemoFailed(f"Step {self.step} failed. {sentence}")

    def _until(self, poll: Callable[[], T | None], sentence: str) -> T:
        deadline = time.monotonic() + PATIENCE
        while (found := poll()) is None:
            self._check(time.monotonic() < deadline, sentence)
            time.sleep(0.1)
        return found


def _admin_of(tenant: Tenant) -> str:
    return f"admin@{tenant.name.lower()}.example"


def _page_of(connection: Connection) -> str:
    return reverse("admin:connections_connection_change", args=[connection.pk])


def _person(name: str, *, is_reviewer: bool = False) -> tuple[User, dict[str, str]]:
    password = secrets.token_urlsafe(12)
    user, _ = User.objects.get_or_create(username=name, defaults={"email": name, "is_reviewer": is_reviewer})
    user.set_password(password)
    user.save(update_fields=["password"])
    return user, {name: password}


def _shown(call: dict[str, Any]) -> str:
    if call["structured_content"] is not None:
        return json.dumps(call["structured_content"])
    block = call["content"][0]
    if block["type"] == "text":
        return str(block["text"]).replace("\n", "; ")
    return f"{block['type']} {block.get('mimeType', '')}, {len(block['data']) * 3 // 4} bytes"

"""The client under test: a person and an assignment who use the product over HTTP, and nothing else.

The suite starts it as `client.py <url of its MCP server>`. The person adds a connection to that server and signs in
as often as the product asks for it; the assignment calls every tool and accepts every form that a tool asks for in the
middle of a call, with the form's defaults. It exits with 0 when the product served them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from tests.loopback import NO_TLS

Json = dict[str, Any]

FINISHED = "The client under test has finished."  # the suite keeps no exit codes, but it keeps this line
PATIENCE = 90.0  # seconds for a check or a call, also when every scenario runs at once on a small machine
MOST_SIGN_INS = 8  # the product itself stops offering them long before
WAITING = {"Prefer": "wait=10"}  # seconds that the product may take for one answer
LET_IN = {"not_needed", "ready", "expiring"}
EXAMPLES = {"string": "us-east1", "integer": 2, "number": 2.5, "boolean": True, "array": [], "object": {}}

say = partial(print, flush=True)


@dataclass(frozen=True)
class Scenario:
    """What the suite tells its client."""

    name: str
    revision: str
    server_url: str
    context: Json

    @property
    def settings(self) -> Json:
        """What the person enters in the form of a connection."""
        entered: Json = {"name": f"{self.name} {self.revision}", "server_url": self.server_url}
        if not self.name.startswith("auth/"):
            return entered
        entered["authorization"] = "oauth"
        if self.name.startswith("auth/client-credentials"):
            entered["oauth_grant"] = "client_credentials"
        if "private_key_pem" in self.context:
            entered |= {"oauth_token_auth": "private_key_jwt", "oauth_signing_key": self.context["private_key_pem"]}
        for member in ("client_id", "client_secret"):
            if member in self.context:
                entered[f"oauth_{member}"] = self.context[member]
        return entered

    def calls(self, tools: list[Json]) -> Iterator[tuple[str, Json]]:
        """Yield name and arguments of every call: those that the suite asks for, else one of each tool."""
        names = {tool["name"].partition("__")[2]: tool["name"] for tool in tools}
        if "toolCalls" in self.context:
            yield from ((names[call["name"]], call["arguments"]) for call in self.context["toolCalls"])
            return
        for tool in tools:
            yield tool["name"], example(tool["input_schema"])
        if "json_schema_echo" in names:  # it wants to hear the schema of the tool beside it
            heard = next(tool["input_schema"] for tool in tools if tool["name"] != names["json_schema_echo"])
            yield names["json_schema_echo"], {"schema": heard}


def example(schema: Json) -> Json:
    """Return arguments that have what the schema requires."""
    properties = schema.get("properties", {})
    return {name: EXAMPLES[properties[name]["type"]] for name in schema.get("required", [])}


def accepted(question: Json) -> Json:
    """Return the answer of somebody who presses OK without a look at the form; there is no browser for an address."""
    if question["mode"] != "form":
        return {"action": "decline"}
    properties = question["schema"]["properties"]
    return {"action": "accept", "content": {name: of["default"] for name, of in properties.items() if "default" in of}}


class Program:
    """A program that uses the REST API with one token."""

    def __init__(self, product: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx2.Client(
            base_url=f"{product}/v1", headers=headers, trust_env=False, verify=NO_TLS, timeout=PATIENCE
        )

    def get(self, path: str, **query: Any) -> Json:
        answer: Json = self._http.get(path, params=query, headers=WAITING).raise_for_status().json()
        return answer

    def post(self, path: str, body: Json) -> httpx2.Response:
        answer = self._http.post(path, json=body, headers=WAITING)
        say(f"POST {path}: {answer.status_code} {answer.text[:500]}")
        return answer

    def disable(self, connection: str) -> None:
        """Disable a connection, which closes the stream of its session: the suite waits until nobody is connected."""
        self._http.patch(f"/connections/{connection}", json={"enabled": False}).raise_for_status()

    def checked(self, connection: str, since: str | None = None) -> Json:
        """Wait for a check that ended after `since` and left nothing open, and return the connection."""
        deadline = time.monotonic() + PATIENCE
        while True:
            now = self.get(f"/connections/{connection}")
            if now["probed_at"] not in {None, since} and now["status"] != "checking":
                say(f"Checked: {now['status']}, {now['credential']}, {now['tools']}")
                return now
            assert time.monotonic() < deadline, f"no check has ended: {now}"
            time.sleep(0.1)

    def tools_of(self, connection: str) -> list[Json]:
        found: list[Json] = []
        query: Json = {"limit": 200}
        while True:
            page = self.get("/tools", **query)
            found += [tool for tool in page["results"] if tool["connection"] == connection]
            if page["next"] is None:
                return found
            query = dict(httpx2.URL(page["next"]).params)


class Person:
    """An organization admin in the admin site, with a browser that keeps cookies."""

    def __init__(self, product: str) -> None:
        self._browser = httpx2.Client(base_url=product, trust_env=False, verify=NO_TLS, timeout=PATIENCE)
        self._browser.get("/admin/login/").raise_for_status()
        known = {"username": os.environ["PRODUCT_ADMIN"], "password": os.environ["PRODUCT_PASSWORD"]}
        entered = self._post("/admin/login/?next=/admin/", known)
        assert entered.status_code == 302, f"nobody is let in: {entered.status_code}"

    def sign_in(self, connection: str) -> bool:
        """Press "Sign in", consent at the provider, come back; False when one of the three steps is refused."""
        leaving = self._post(f"/admin/connections/connection/{connection}/sign-in/", {})
        address = leaving.headers.get("location", "")
        if not address.startswith("http://localhost:"):
            say(f"There is no way to the provider: {leaving.status_code} {address}")
            return False
        with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=PATIENCE) as elsewhere:
            consented = elsewhere.get(address)
        callback = self._browser.get(consented.headers["location"])
        say(f"The callback answered {callback.status_code}")
        return callback.is_redirect

    def _post(self, path: str, data: dict[str, str]) -> httpx2.Response:
        """Press a button; press it again when the page says that too much is asked at this moment."""
        deadline = time.monotonic() + PATIENCE
        while True:
            token = self._browser.cookies["csrftoken"]
            answer = self._browser.post(path, data={**data, "csrfmiddlewaretoken": token})
            if answer.status_code != 503 or time.monotonic() > deadline:
                return answer
            say(f"POST {path}: too much is asked at this moment")
            time.sleep(float(answer.headers["Retry-After"]))


@dataclass
class Visit:
    """One connection from the form to its last call."""

    scenario: Scenario
    admin: Program
    assignment: Program
    product: str
    sign_ins: int = 0

    def tell(self) -> None:
        added = self.admin.post("/connections", self.scenario.settings)
        connection = self.sign_in_while_asked(self.admin.checked(added.raise_for_status().json()["id"]))
        for name, arguments in self.scenario.calls(self.assignment.tools_of(connection["id"])):
            while not self.call(name, arguments).is_success:
                before = self.admin.get(f"/connections/{connection['id']}")
                if self.sign_in_while_asked(before) is before:
                    break
        self.admin.disable(connection["id"])

    def call(self, name: str, arguments: Json) -> httpx2.Response:
        answer = self.assignment.post(f"/tools/{name}/call", {"arguments": arguments})
        given = {key: value for key, value in arguments.items() if value is not None}
        if answer.status_code == 422 and given != arguments:  # its schema has no null: such an argument is left out
            return self.call(name, given)
        if answer.status_code == 202:
            self.see_to_the_end(answer.json())
        return answer

    def see_to_the_end(self, call: Json) -> None:
        """Accept what the call asks, as often as it asks, until it has ended."""
        address, deadline = f"/calls/{call['id']}", time.monotonic() + PATIENCE
        while call["finished_at"] is None:
            assert time.monotonic() < deadline, f"the call has not ended: {call}"
            if call["input_required"] is None:
                call = self.assignment.get(address)
                continue
            requests = call["input_required"]["requests"]
            responses = {key: accepted(question) for key, question in requests.items()}
            call = self.assignment.post(f"{address}/input", {"responses": responses}).raise_for_status().json()
        say(f"The call has ended: {call['state']} {call['error']}")

    def sign_in_while_asked(self, connection: Json) -> Json:
        """Do what the product's next step says as long as it says: sign in; return the connection afterwards."""
        person: Person | None = None
        while connection["credential"]["state"] not in LET_IN and connection["next_step"].startswith("Press Sign in"):
            self.sign_ins += 1
            assert self.sign_ins <= MOST_SIGN_INS, "the product asks for sign-ins without end"
            person = person or Person(self.product)
            if not person.sign_in(connection["id"]):
                break
            connection = self.admin.checked(connection["id"], since=connection["probed_at"])
        return connection


def main() -> None:
    told, product = os.environ, os.environ["PRODUCT_URL"]
    scenario = Scenario(
        told["MCP_CONFORMANCE_SCENARIO"],
        told["MCP_CONFORMANCE_PROTOCOL_VERSION"],
        sys.argv[1],
        json.loads(told.get("MCP_CONFORMANCE_CONTEXT", "{}")),
    )
    admin, assignment = (Program(product, told[name]) for name in ("PRODUCT_ADMIN_TOKEN", "PRODUCT_ASSIGNMENT_TOKEN"))
    Visit(scenario, admin, assignment, product).tell()
    say(FINISHED)


if __name__ == "__main__":
    main()

"""The canary of signing in: every secret of a long story is collected, and then looked for in everything to be read."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
from django.core import mail
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from connections import egress, signing_keys
from connections.errors import DuvoError
from connections.models import Connection, Credential, Notice, User
from connections.notices import delivering, notices
from oauth import discovering, flow, refreshing
from oauth.models import PendingAuthorization, Registration, SignIn
from oauth.responses import AuthorizationResponse
from tests import reading
from tests.live import Api
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_sign_in import CALLBACK, secret
from tests.servers.authorization.server import approve
from tests.servers.kinds import respond
from tests.servers.running import Incoming, Receive, Rule, Send
from tools.calls import offers

ENTERED = {
    "secret": "m4rk-entered-secret-0123456789",
    "sent": "m4rk-secret-by-api-0123456789",
    "granted": "m4rk-granted-0123456789",
}
DETAIL = "secret detail"  # what the test servers say in the bodies of their errors
ARGUMENTS = {"call_id", "connection_id", "sign_in_id", "notice_id"}
FORM = ("code", "code_verifier", "refresh_token", "client_secret", "client_assertion", "token")


class Remembering(dict[str, Any]):
    """A dict that still knows every key it ever had."""

    def __init__(self) -> None:
        super().__init__()
        self.ever: set[str] = set()

    def __setitem__(self, key: str, value: Any) -> None:
        self.ever.add(key)
        super().__setitem__(key, value)


class Browser(Client):
    """A browser that keeps every answer it got."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[HttpResponse] = []

    def request(self, **request: Any) -> HttpResponse:
        answer = super().request(**request)
        self.answers.append(answer)
        return answer


@dataclass
class Story:
    """What happened, what of it is secret, and what was said meanwhile."""

    api: Api
    browser: Browser
    start: StartScene
    scenes: dict[str, Scene] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    verifiers: set[str] = field(default_factory=set)
    answers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def scene(self, name: str, connection: dict[str, Any] | None = None, **options: Any) -> Scene:
        begun = self.start(connection={"name": name, **(connection or {})}, **options)
        begun.client = self.browser
        provider = begun.auth.provider
        provider.codes, provider.access, provider.refresh = Remembering(), Remembering(), Remembering()
        self.scenes[name] = begun
        return begun

    def leave(self, scene: Scene, **form: str) -> str:
        """Press Sign in, go to the provider and return the callback that it sends the browser to."""
        away = scene.depart(**form)
        self.verifiers.update(pending.verifier() for pending in PendingAuthorization.objects.all())
        return approve(away)

    def call(self, scene: Scene, tool: str, **arguments: Any) -> int:
        offers.forget()
        assignment = scene.house.tenant.assignments.first() or scene.house.assignment()
        caller = self.api.as_(scene.house.token(assignment))
        answer = caller.call(f"{scene.connection.slug}__{tool}", arguments or {"text": "hello"})
        # What the server says of its error is quoted to whoever called, at one place and nowhere else.
        quoted = answer.json().pop("server_message", "") if answer.is_error else ""
        self.answers.append(answer.text.replace(f'"server_message":"{quoted}"', "") + str(answer.headers))
        return answer.status_code

    def raised(self, work: Callable[[], Any]) -> None:
        """Keep what a traceback shows of it."""
        try:
            work()
        except DuvoError as error:
            self.errors.append("".join(traceback.format_exception(error)) + repr(error) + str(error))
        else:
            pytest.fail("that should have failed")

    @cached_property
    def states(self) -> set[str]:
        return {asked["state"] for scene in self.scenes.values() for asked in scene.auth.authorizations}

    @cached_property
    def secrets(self) -> set[str]:
        """What nobody may read, the states apart; asked for when the story is over."""
        found = {DETAIL, *ENTERED.values(), *self.verifiers}
        for pem in self.keys:
            found |= {pem, *[line for line in pem.splitlines() if len(line) > 20 and "-----" not in line]}
        for auth in (scene.auth for scene in self.scenes.values()):
            found |= auth.provider.codes.ever | auth.provider.access.ever | auth.provider.refresh.ever
            found |= {client.client_secret for client in auth.provider.clients.values() if client.client_secret}
            for request in [*auth.at("/token"), *auth.at("/revoke")]:
                found |= {request.form[name] for name in FORM if request.form.get(name)}
                found |= {request.headers[name].split()[-1] for name in ("authorization",) if name in request.headers}
        return found | {row.secret() for row in Registration.objects.all() if row.secret()}

    def leaks(self, said: str) -> list[str]:
        return [value for value in self.secrets | self.states if value in said]


@pytest.fixture
def story(scene: StartScene, api: Api, caplog: pytest.LogCaptureFixture, broker: redis.Redis) -> Story:
    """Sign in, fail, renew, step up and sign out, at servers that answer with secrets of their own."""
    caplog.set_level(logging.DEBUG)
    told = Story(api, Browser(), scene)
    orders = told.scene(
        "Orders", auth_methods=["client_secret_basic"], protected={"scopes": ["read"], "insufficient": {"add": "write"}}
    )
    told.browser.force_login(orders.house.admin)
    _signs_in(told, orders)
    _fails_to_sign_in(told, orders)
    _renews(told, orders)
    _loses(told, told.scene("Files", auth_methods=["client_secret_post"]))
    _needs_nobody(told)
    return told


def _signs_in(story: Story, orders: Scene) -> None:
    """By registration, again, with one more permission, out, and in."""
    orders.press("check-sign-in")
    orders.come_back(story.leave(orders))
    orders.probe()
    assert story.call(orders, "echo") == 200
    orders.come_back(story.leave(orders, again="1"))
    assert story.call(orders, "add", a=1, b=2) == 502
    orders.come_back(story.leave(orders, again="1"))
    assert story.call(orders, "add", a=1, b=2) == 200
    orders.press("sign-out")
    orders.come_back(story.leave(orders))
    assert orders.state == ("ready", "")


async def _repeats_as_error(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
    """Refuse with everything that was sent."""
    sent = " ".join(request.form.values())
    body = {
        **request.form,
        "error": request.form.get("code"),
        "error_description": sent,
        "error_uri": f"https://{sent}",
    }
    return request.path == "/token" and await respond(
        send, 400, json.dumps(body).encode(), x_reason=request.form["code"]
    )


async def _repeats_as_page(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
    """Fail with a page that shows what was sent."""
    page = b"<h1>%b</h1>" % request.body
    return request.path == "/token" and await respond(send, 500, page, content_type="text/html")


async def _repeats_as_scope(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
    """Grant what was sent."""
    body = {"access_token": "m4rk-granted-0123456789", "scope": f"read {' '.join(request.form.values())}"}
    return request.path == "/token" and await respond(send, 200, json.dumps(body).encode())


def _fails_to_sign_in(story: Story, orders: Scene) -> None:
    """Refused, replayed, mixed up, made up, and with a token endpoint in trouble; the sign-in there is stays."""
    auth = orders.auth
    auth.deny = True
    assert orders.come_back(story.leave(orders)).status_code == 400
    auth.deny = False
    callback = story.leave(orders)
    assert [orders.come_back(callback).status_code for _ in range(2)] == [302, 400]
    auth.iss = "wrong"
    assert orders.come_back(story.leave(orders)).status_code == 400
    auth.iss = "right"
    assert orders.come_back(story.leave(orders).replace("state=", "state=x")).status_code == 400
    for status, error in ((503, None), (400, None), (400, "invalid_scope"), (400, DETAIL)):
        auth.fail_tokens_with(status, error)
        assert orders.come_back(story.leave(orders)).status_code == 400
        brought = {name: values[0] for name, values in parse_qs(urlsplit(story.leave(orders)).query).items()}
        answer = AuthorizationResponse(orders.house.admin, str(story.browser.session.session_key), **brought)
        story.raised(lambda answer=answer: flow.complete(answer))
        story.errors.append(repr(answer))
    auth.fail_tokens_with(200)
    for rule in (_repeats_as_error, _repeats_as_page, _repeats_as_scope):
        auth.behave(rule)
        orders.come_back(story.leave(orders, again="1"))
    auth.behave()
    callback = story.leave(orders)
    state = parse_qs(urlsplit(callback).query)["state"][0]
    assert orders.come_back(f"/v1/oauth/mcp/callback?state={state}&error={state}&iss={auth.issuer}").status_code == 400
    orders.come_back(story.leave(orders))


def _wants_the_token_as_a_scope(status: int) -> Rule:
    async def answer(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        challenge = f'Bearer error="insufficient_scope", scope="read {token}", error_description="{token}"'
        return request.rpc_method == "tools/call" and await respond(send, status, www_authenticate=challenge)

    return answer


def _renews(story: Story, orders: Scene) -> None:
    """With success, on a refused token, and with failures of every kind."""
    server_rules = list(orders.server.rules)
    for status in (401, 403):
        orders.server.rules[:] = [_wants_the_token_as_a_scope(status), *server_rules]
        assert story.call(orders, "echo") >= 500
    orders.server.rules[:] = server_rules
    orders.come_back(story.leave(orders))
    refreshing.attend(orders.sign_in_row.pk)
    orders.auth.expire_access_tokens()
    assert story.call(orders, "echo") == 200
    for status, error in ((503, None), (400, "invalid_scope"), (400, DETAIL)):
        orders.auth.fail_tokens_with(status, error)
        SignIn.objects.update(not_before=None)
        row = orders.sign_in_row
        story.raised(lambda row=row: egress.run(refreshing.renew(row.pk, row.generation, of=row.connection.tenant_id)))
        story.errors.append(repr(row.tokens()) + repr(refreshing.held(row.connection, None)))
    _expire(orders)
    assert story.call(orders, "echo") == 503
    orders.auth.fail_tokens_with(200)
    SignIn.objects.update(not_before=None)
    assert story.call(orders, "echo") == 200


def _loses(story: Story, files: Scene) -> None:
    """A sign-in that the provider revokes, and the mail about it."""
    files.come_back(story.leave(files))
    files.probe()
    files.auth.revoke_everything()
    _expire(files)
    assert story.call(files, "echo") == 503
    assert files.state == ("refused", "sign_in_revoked")
    Notice.objects.open().update(deliver_at=timezone.now())
    for notice_id in notices.due(timezone.now()):
        delivering.deliver(notice_id)
    assert mail.outbox


def _needs_nobody(story: Story) -> None:
    """Client credentials, with a secret and with a key of ours; then another secret, by the API."""
    robot = {"oauth_client_id": "robot", "oauth_grant": "client_credentials"}
    options: dict[str, Any] = {"client_credentials": True, "dcr": False}
    by_secret = story.scene("Robot", connection=robot, **options)
    secret(by_secret, ENTERED["secret"])
    by_secret.auth.add_client("robot", secret=ENTERED["secret"], redirect_uri=CALLBACK)
    by_secret.probe()
    assert by_secret.state == ("ready", "")
    signing = {**robot, "oauth_token_auth": "private_key_jwt"}
    by_key = story.scene("Signer", connection=signing, auth_methods=["private_key_jwt"], **options)
    story.keys.append(signing_keys.make())
    Credential(connection=by_key.connection, kind="oauth_signing_key").set(story.keys[0], by=None)
    published = story.browser.get(f"/v1/oauth/mcp/keys/{by_key.connection.pk}.json").json()
    by_key.auth.add_client("robot", jwks=published)
    by_key.probe()
    assert by_key.state == ("ready", "")
    admin = story.api.as_(by_secret.house.member_token(by_secret.house.admin))
    changed = admin.request(
        "PATCH", f"/v1/connections/{by_secret.connection.pk}", json={"oauth_client_secret": ENTERED["sent"]}
    )
    assert changed.status_code == 200, changed.text
    story.answers.append(changed.text)


def _expire(scene: Scene) -> None:
    scene.auth.expire_access_tokens()
    SignIn.objects.filter(connection=scene.connection).update(expires_at=timezone.now() - timedelta(seconds=1))


def test_no_page_of_the_admin_and_no_answer_of_the_api_shows_a_secret(
    story: Story,
    reviewer: User,
    superuser: User,
    signed_in: Callable[[User | None], Client],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)  # at DEBUG, templates log a traceback for every variable that is not there
    house, shown = story.scenes["Orders"].house, 0
    for user in (house.admin, house.member, house.auditor, reviewer, superuser):
        client = signed_in(user)
        for path in reading.admin_pages(most=2):
            answer = client.get(path, follow=True)
            assert story.leaks(answer.content.decode() + str(answer.headers)) == [], f"{user} at {path}"
            shown += answer.status_code == 200
    assert shown > 100
    paths = ["/v1/connections", *(f"/v1/connections/{pk}" for pk in Connection.objects.values_list("pk", flat=True))]
    tokens = [
        house.token(house.tenant.assignments.get()),
        *(house.member_token(user) for user in (house.admin, house.member, house.auditor)),
    ]
    for token in tokens:
        for path in paths:
            answer = story.api.as_(token).get(path)
            assert story.leaks(answer.text + str(answer.headers)) == [], path
    assert [story.leaks(answer) for answer in story.answers] == [[] for _ in story.answers]


def test_the_browser_is_shown_a_state_only_on_its_way_to_the_provider(story: Story) -> None:
    secrets, states, away = story.secrets, story.states, 0
    for answer in story.browser.answers:
        said = answer.content.decode() + str(answer.headers)
        place = answer.get("Location", "")
        if any(place.startswith(f"{scene.auth.url}/authorize?") for scene in story.scenes.values()):
            away += 1
        else:
            assert not [state for state in states if state in said], answer.request["PATH_INFO"]
        assert not [value for value in secrets if value in said], answer.request["PATH_INFO"]
    assert away == len(states) > 10
    back = [answer for answer in story.browser.answers if answer.request["PATH_INFO"].endswith("/callback")]
    assert {answer.status_code for answer in back} == {302, 400}
    for answer in back:
        assert "no-store" in answer["Cache-Control"]
        assert answer["Referrer-Policy"] in {"same-origin", "no-referrer"}


def test_nothing_that_is_written_down_or_sent_holds_a_secret(
    story: Story, caplog: pytest.LogCaptureFixture, broker: redis.Redis
) -> None:
    assert [line for line in reading.log_lines(caplog) if story.leaks(line)] == []
    queued = [message for queue in reading.QUEUES for message in reading.messages(broker, queue)]
    assert queued
    assert [text for text, arguments in queued if story.leaks(text) or not set(arguments) <= ARGUMENTS] == []
    assert [message.body for message in mail.outbox if story.leaks(str(message.message()))] == []
    assert len(story.errors) > 10
    assert [error for error in story.errors if story.leaks(error)] == []
    assert [name for name, content in reading.tables() if story.leaks(content)] == []
    assert [row for row in reading.rows() if story.leaks(row)] == []


def test_a_header_that_a_server_repeats_as_an_address_is_not_shown(scene: StartScene) -> None:
    scene, secret = scene(protected={"metadata": "path"}), "m4rk-header-0123456789"
    protection = scene.server.rules[0]

    async def repeats(_: Any, request: Incoming, __: Receive, send: Send) -> bool:
        hint = f"{scene.auth.url}/{request.headers.get('x-team', '').removeprefix('Bearer ')}"
        challenge = f'Bearer resource_metadata="{hint}"'
        return request.method == "POST" and await respond(send, 401, www_authenticate=challenge)

    scene.server.rules[:] = [repeats, protection]
    conclusion = discovering.discover(discovering.Settings(scene.server.url, headers={"x-team": f"Bearer {secret}"}))
    assert conclusion.found is not None
    assert scene.auth.requests[0].path == f"/{secret}"
    assert secret not in repr(conclusion)

"""Every parameter of every route, with what no program should send: it is answered as the caller's fault."""

from __future__ import annotations

import re
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import House
from tests.live import Api
from tests.tools.conftest import Shop

# As bytes of a URL, and of a header where it can be said there.
IN_URLS = {
    "nul": "a%00b",
    "only nul": "%00",
    "a half character": "%ED%A0%80",
    "no utf-8": "%FF%FE",
    "long": "x" * 10_000,
    "many digits": "9" * 5_000,
    "negative": "-1",
    "beyond 64 bits": "99999999999999999999999",
    "beyond 63 bits": "9223372036854775808",
    "beyond 31 bits": "2147483648",
    "other digits": "%D9%A1%D9%A2%D9%A3",
    "a superscript": "%C2%B2",
    "infinity": "1e999",
    "nan": "NaN",
    "no date": "9999-99-99",
    "the last date": "9999-12-31",
    "the first date": "0001-01-01T00:00:00%2B14:00",
    "the other end of time": "9999-12-31T23:59:59-14:00",
    "a line": "a%0D%0Ab",
    "nothing": "",
}
IN_HEADERS = {
    "nul": b"a\x00b",
    "a half character": b"\xed\xa0\x80",
    "no utf-8": b"\xff\xfe",
    "long": b"x" * 10_000,
    "many digits": b"9" * 5_000,
    "negative": b"-1",
    "beyond 64 bits": b"99999999999999999999999",
    "other digits": "\u0661\u0662".encode(),
    "a superscript": b"\xb2",
    "wait long": b"wait=99999999999999999999999",
    "wait in other digits": "wait=\u0661".encode(),
    "wait in a superscript": b"wait=\xb2",
    "wait many digits": b"wait=" + b"9" * 5_000,
    "infinity": b"1e999",
    "quotes": b'"' * 99,
    "commas": b"," * 5_000,
    "nothing": b"",
}
ALWAYS = ("Authorization", "Content-Type", "Accept", "Content-Length", "X-Request-ID", "X-Forwarded-For", "Host")
OWN = (
    "Last-Event-ID",
    "If-None-Match",
    "Range",
    "Accept-Encoding",
    "Accept-Language",
    "Cookie",
    "Expect",
    "traceparent",
)


class Asking:
    """One caller, and what is known of each parameter."""

    def __init__(self, api: Api, known: dict[str, str]) -> None:
        self.api = api
        self.known = known
        self.failed: list[str] = []

    def ask(self, method: str, path: str, headers: dict[str, bytes] | None = None, what: str = "") -> None:
        address = urlsplit(self.api.base)
        line = HTTPConnection(str(address.hostname), address.port, timeout=30)
        line.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
        sent = {"Authorization": f"Bearer {self.api.token}".encode(), "Content-Type": b"application/json"}
        sent |= {"Content-Length": b"2", "Prefer": b"wait=0"} | (headers or {})
        for name, value in sent.items():
            line.putheader(name, value)
        line.endheaders(b"{}")
        try:
            status = line.getresponse().status
        except TimeoutError:
            status = 599
        except OSError:  # it hung up on what is no HTTP
            status = 400
        finally:
            line.close()
        if status >= 500:
            self.failed.append(f"{method} {path[:120]} {what}: {status}")

    def path(self, path: str, **other: str) -> str:
        return re.sub(r"{(\w+)}", lambda found: other.get(found[1], self.known.get(found[1], "1")), path)


def operations(document: dict[str, Any]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    return [
        (path, method.upper(), each.get("parameters", []))
        for path, item in document["paths"].items()
        for method, each in item.items()
        if "/events" not in path or "audit" in path  # a stream, which ends when it is left
    ]


@pytest.fixture(params=["assignment", "admin"])
def asking(request: pytest.FixtureRequest, shop: Shop, acme: House) -> Asking:
    call = shop.call("echo", {"text": "x"}).json()["id"]
    known = {"id": call, "name": "orders__echo", "number": "1"}
    token = shop.api.token if request.param == "assignment" else acme.member_token(acme.admin)
    return Asking(shop.api.as_(token), known)


def test_no_parameter_in_an_address_is_a_failure_of_ours(asking: Asking) -> None:
    for path, method, parameters in operations(asking.api.get("/v1/schema").json()):
        in_path = re.findall(r"{(\w+)}", path)
        in_query = [each["name"] for each in parameters if each["in"] == "query"]
        for value in IN_URLS.values():
            for name in in_path:
                asking.ask(method, asking.path(path, **{name: value}))
            for name in in_query:
                asking.ask(method, f"{asking.path(path)}?{name}={value}")
            asking.ask(method, f"{asking.path(path)}?{value}={value}")
    assert not asking.failed


def test_no_header_is_a_failure_of_ours(asking: Asking) -> None:
    for path, method, parameters in operations(asking.api.get("/v1/schema").json()):
        named = {each["name"] for each in parameters if each["in"] == "header"}
        # The others are read before it is known which route is asked for: once with, and once without a body.
        common = [*ALWAYS, *OWN] if path in {"/v1/calls", "/v1/tools/{name}/call"} else []
        for name in [*sorted(named), *common]:
            for what, value in IN_HEADERS.items():
                asking.ask(method, asking.path(path), {name: value}, f"{name}: {what}")
    assert not asking.failed

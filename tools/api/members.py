"""Which members a body may have, and which belong together: nothing that a program sends is dropped in silence. Pure.

strangers(given, ...)    members that are not known, or only read; of any kind of row
method_of(given, stored) the authorization method that is meant: a secret without a method names its own
misfits(given, ...)      members of another method than that
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from connections.models import Authorization

Fault = dict[str, str]
MEMBERS_OF = {  # what only one method uses; the others go with any
    "api_key": Authorization.API_KEY,
    "api_key_header": Authorization.API_KEY,
    "headers": Authorization.HEADERS,
    "sharing": Authorization.OAUTH,
    "oauth_grant": Authorization.OAUTH,
    "oauth_client_id": Authorization.OAUTH,
    "oauth_client_secret": Authorization.OAUTH,
    "oauth_token_auth": Authorization.OAUTH,
    "oauth_signing_key": Authorization.OAUTH,
    "oauth_scopes": Authorization.OAUTH,
    "oauth_resource": Authorization.OAUTH,
    "oauth_omit_resource": Authorization.OAUTH,
    "oauth_authorization_server": Authorization.OAUTH,
    "oauth_assume_pkce": Authorization.OAUTH,
}
_WITH_ANY_CREDENTIAL = {"sharing"}  # listed above with the method that it alone would mean
WORDS_OF_CONNECTIONS = {  # of other products, by what they are called here
    "url": "server_url", "endpoint": "server_url", "server": "server_url",
    "auth": "authorization", "auth_type": "authorization", "authorization_method": "authorization",
    "method": "authorization", "token": "api_key", "bearer_token": "api_key", "access_token": "api_key",
    "key": "api_key", "client_id": "oauth_client_id", "client_secret": "oauth_client_secret",
    "scope": "oauth_scopes", "scopes": "oauth_scopes", "timeout": "call_timeout", "title": "name",
}  # fmt: skip
_LONGEST_NAME = 60  # characters of a member's name that are said again


def strangers(
    given: Mapping[str, Any], known: Collection[str], read_only: Collection[str], *, what: str, words: Mapping[str, str]
) -> Iterator[Fault]:
    """Yield a fault for each member that cannot be set; it names the one that may be meant, and no value.

    `what` has these members (“A connection”); `words` are those of other products, each with the member that it means.
    """
    for name in given:
        if name in known:
            continue
        said = name[:_LONGEST_NAME]
        plain = name.lower().replace("-", "_")
        if name in read_only:
            yield fault(name, "read_only", f"“{said}” is only read: leave it out.")
            continue
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in said).lstrip("_")
        near = next((word for word in (plain, snake) if word in known), None) or words.get(plain)
        near = near or next(iter(get_close_matches(plain[:_LONGEST_NAME], known, n=1)), None)
        hint = f" Is “{near}” meant?" if near else ""
        yield fault(name, "unknown_member", f"{what} has no member “{said}”.{hint} Nothing was saved.")


def method_of(given: Mapping[str, Any], stored: str | None) -> str:
    """Return the method that is meant; `stored` is that of the connection, None for a new one."""
    if "authorization" in given:
        return str(given["authorization"])
    before = stored or Authorization.NONE.value
    members = [name for name in given if name in MEMBERS_OF and given[name]]
    named = {MEMBERS_OF[name].value for name in members if name not in _WITH_ANY_CREDENTIAL or len(members) == 1}
    return named.pop() if before == Authorization.NONE and len(named) == 1 else before


def misfits(given: Mapping[str, Any], method: str, before: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield a fault for each member that this method does not use; blanks and what is so anyway do no harm."""
    for name, its_method in MEMBERS_OF.items():
        if name not in given or its_method == method or not given[name] or given[name] == before.get(name):
            continue
        if name in _WITH_ANY_CREDENTIAL and method != Authorization.NONE:
            continue
        yield fault(
            name,
            "other_method",
            f"“{name}” belongs to the method “{its_method}”, and the method is “{method}”. Send "
            f"`authorization`: “{its_method}” with it, or leave it out. Nothing was saved.",
        )


def fault(name: str, code: str, sentence: str) -> Fault:
    """Return a fault of one member."""
    pointer = name.replace("~", "~0").replace("/", "~1")  # RFC 6901, section 3
    return {"pointer": f"/{pointer}", "code": code, "detail": sentence}

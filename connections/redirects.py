"""Where a server sends us: never followed, but told, and offered to an admin where it is the same host.

The server is asked once more without any credential, so that nothing that it repeats can be a secret of ours.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from connections import egress
from connections.errors import DuvoError
from connections.models import Connection

REASON = "redirected"
SIGN_IN_PAGE = "sign_in_page"
_ASKED_FOR = 5.0  # seconds
_LONGEST = 200  # characters of an address that fits into the sentence
_TOLD = re.compile(r"sends us to (\S+) \(HTTP 3\d\d\)")
_ENCRYPTED = re.compile(r"Try (https://\S+): ")
_SIGN_IN = re.compile(
    r"(?:^|[/._-])(?:log[-_]?[io]n|sign[-_]?in|sso|saml2?|oauth2?|authorize|cloudflareaccess)(?:[/._-]|$)",
    re.IGNORECASE,
)


def told(server_url: str) -> tuple[str, str]:
    """Return the reason and the sentence that names where the server sends us, "" if it does not say; never raises."""
    try:
        answer = egress.run(egress.fetch("GET", server_url, head_only=True, timeout=_ASKED_FOR))
        location = answer.headers.get("location", "")
        return about(server_url, answer.status, location) if answer.status in range(300, 400) else (REASON, "")
    except (DuvoError, ValueError):
        return REASON, ""


def about(server_url: str, status: int, location: str) -> tuple[str, str]:
    """Return the same of the answer to a request; raises ValueError and Refused for what is no address."""
    if not location:
        return REASON, ""
    target, encrypted = _target(server_url, location)
    # What a query string holds may be for nobody else.
    shown, encrypted = target.partition("?")[0], encrypted.partition("?")[0]
    if len(shown) > _LONGEST or egress.bare(shown) != shown:
        return REASON, ""
    sentence = f"The server sends us to {shown} (HTTP {status})"
    parts = urlsplit(shown)
    if _SIGN_IN.search(f"{parts.hostname}{parts.path}"):
        return SIGN_IN_PAGE, f"A page where people sign in stands before the server. {sentence}."
    if not encrypted:
        return REASON, f"{sentence}, and redirects are not followed."
    other = f" Try {encrypted}: the same with encryption." if encrypted != server_url.partition("?")[0] else ""
    return REASON, f"{sentence}, which is not encrypted: it does not know that it is behind https.{other}"


def _target(server_url: str, location: str) -> tuple[str, str]:
    """Return where it sends us, and where that is with encryption if it is http at the same host ("" if it is not).

    Raises Refused for what is never requested.
    """
    asked, target = urlsplit(server_url), urlsplit(urljoin(server_url, location))
    if (asked.scheme, target.scheme, target.hostname) != ("https", "http", asked.hostname) or "@" in target.netloc:
        return egress.check_hop(target.geturl()), ""
    encrypted = egress.check_hop(target._replace(scheme="https", netloc=asked.netloc).geturl())
    return target._replace(fragment="").geturl(), encrypted


def offered(connection: Connection) -> str:
    """Return the address to which the server sent the last check, if it is another one of the same host; else ""."""
    if connection.reachability_reason != REASON:
        return ""
    return offered_by(connection.reachability_sentence, connection.server_url)


def offered_by(sentence: str, server_url: str) -> str:
    """Return the address that a sentence of `about` names, if it is another one of the same host; else ""."""
    match = _ENCRYPTED.search(sentence) or _TOLD.search(sentence)
    if match is None:
        return ""
    here = urlsplit(server_url)
    target = f"{match[1]}?{here.query}" if here.query else match[1]
    there = urlsplit(target)
    if there.hostname != here.hostname or (here.scheme, there.scheme) == ("https", "http"):
        return ""
    return target if target != server_url else ""

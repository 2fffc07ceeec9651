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
_ASKED_FOR = 5.0  # seconds
_LONGEST = 200  # characters of an address that fits into the sentence
_TOLD = re.compile(r"sends us to (\S+) \(HTTP 3\d\d\)")


def told(server_url: str) -> str:
    """Return the sentence that names where the server sends us, "" if it does not say; never raises."""
    try:
        answer = egress.run(egress.fetch("GET", server_url, head_only=True, timeout=_ASKED_FOR))
        location = answer.headers.get("location", "")
        if not location or answer.status not in range(300, 400):
            return ""
        target = egress.check_hop(urljoin(server_url, location))
    except (DuvoError, ValueError):
        return ""
    shown = target.partition("?")[0]  # what a query string holds may be for nobody else
    if len(shown) > _LONGEST or egress.bare(shown) != shown:
        return ""
    return f"The server sends us to {shown} (HTTP {answer.status}), and redirects are not followed."


def offered(connection: Connection) -> str:
    """Return the address to which the server sent the last check, if it is another one of the same host; else ""."""
    match = _TOLD.search(connection.reachability_sentence)
    if connection.reachability_reason != REASON or match is None:
        return ""
    query = urlsplit(connection.server_url).query
    target = f"{match[1]}?{query}" if query else match[1]
    same_host = urlsplit(target).hostname == urlsplit(connection.server_url).hostname
    return target if same_host and target != connection.server_url else ""

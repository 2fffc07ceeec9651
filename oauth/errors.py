"""What can go wrong on the way to a token, named for what the caller can do about it.

OAuthError                  every error of this package
├── CannotSignIn            the server, or what is entered here, leaves no way to sign in; the code says why
├── NeedsSignIn             there is no token that can be used: a person has to sign in
├── CallbackRefused         the browser came back with a response that is not accepted; nothing was changed
├── ProviderRefused         the authorization server answered with an error; `error` is its code (RFC 6749, section 5.2)
└── ProviderUnavailable     the authorization server did not answer, or not as it should: try again later
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from connections import quoting
from connections.errors import DuvoError

_WHOSE = "the provider's"


class OAuthError(DuvoError):
    """Signing in did not work."""

    code = "sign_in_failed"


class CannotSignIn(OAuthError):
    """There is no way to sign in to this server."""

    code = "cannot_sign_in"


class NeedsSignIn(OAuthError):
    """This connection needs a sign-in."""

    code = "sign_in_needed"


class CallbackRefused(OAuthError):
    """This sign-in cannot be completed."""

    code = "callback_refused"


class ProviderRefused(OAuthError):
    """The sign-in server refused."""

    code = "provider_refused"
    error: str
    meaning: str  # the code of the standard that says the same, where there is one

    def __init__(self, error: str, *, status: int = 400, sentence: str = "", said: str = "") -> None:
        """Take the error code of the answer, and its HTTP status; a code that is not well-formed is not repeated.

        `sentence` says more than the code does; `said` are the provider's own words in an answer to us, as people may
        read them. What came by the browser is nobody's words.
        """
        known = code_in(error)
        self.error = known
        self.meaning = meaning_of(known)
        self.status = status
        what = sentence or _SENTENCES.get(self.meaning) or _unknown(known)
        super().__init__(f"{what} {quoting.sentence(_WHOSE, said)}".strip())

    @property
    def definite(self) -> bool:
        """Whether the server judged the request, and not a firewall or a page in front of it."""
        return bool(self.error) or self.status in {400, 401}


class ProviderUnavailable(OAuthError):
    """The sign-in server did not answer as it should. Try again in a while."""

    code = "provider_unavailable"


def code_in(value: Any) -> str:
    """Return the code of an error as the standards write it, "" for none.

    It is text, in an object, or the only one of a list. A known one may be written in other letters, with spaces or
    hyphens; any other has to be well-formed, so that no secret that was sent back is taken for one.
    """
    if isinstance(value, list):
        return code_in(value[0]) if len(value) == 1 and not isinstance(value[0], list) else ""
    if isinstance(value, Mapping):
        found = (code_in(value.get(name)) for name in _HOLDERS if isinstance(value.get(name), str))
        return next(filter(None, found), "")
    text = value.strip() if isinstance(value, str) and len(value) <= _LONGEST_CODE else ""
    plain = re.sub(r"[\s_-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)).lower()
    if re.fullmatch(_WELL_FORMED, plain) and is_known(plain):
        return plain
    return text if re.fullmatch(_WELL_FORMED, text) else ""


def is_known(code: str) -> bool:
    """Whether it is known what a code means."""
    return code in _SENTENCES or code in _MEANT or is_for_later(code) or _is_a_no(code)


def meaning_of(code: str) -> str:
    """Return the code of the standard that says the same as this one, or the code itself."""
    return "access_denied" if _is_a_no(code) else _MEANT.get(code, code)


def is_for_later(code: str) -> bool:
    """Whether a code means trouble of the provider's own, or too many requests: no refusal."""
    return _LATER.search(code.replace("_", "")) is not None


def _is_a_no(code: str) -> bool:
    """Whether a code says that the person did not allow it: a word for no, and else only words of whose or of what."""
    words = set(code.split("_"))
    return bool(words & _NO) and words <= _NO | _OF_A_PERSON


def _unknown(error: str) -> str:
    return f"The sign-in server refused with the error “{error}”." if error else "The sign-in server refused."


_HOLDERS = ("code", "type", "error", "name", "status")  # where an object that is an error has its code
_LONGEST_CODE = 60
_WELL_FORMED = r"[a-z]+(_[a-z]+)*"
_LATER = re.compile(
    r"ratelimit|toomany(requests|attempts|calls)|throttl|unavailable|overload|slowdown|servererror|internalerror"
    r"|fatalerror|(gateway|request|server)time(d?)out|^time(d?)out|try(again)?later|serverbusy|maintenance|quotaexceeded"
)
_NO = {
    "abort", "aborted", "cancel", "canceled", "cancelled", "cancellation", "decline", "declined", "denied", "deny",
    "disallowed", "dismissed", "rejected",
}  # fmt: skip
_OF_A_PERSON = {
    "access", "account", "app", "auth", "authentication", "authorization", "authorisation", "authorize", "authorized",
    "by", "consent", "end", "flow", "has", "in", "login", "oauth", "operation", "owner", "permission", "permissions",
    "popup", "prompt", "request", "resource", "scope", "scopes", "sign", "signin", "the", "user", "was",
}  # fmt: skip
# Codes of providers, and those of the standard for the same: GitHub, Slack, Supabase, OpenID Connect.
_MEANT = {
    "account_selection_required": "interaction_required",
    "refresh_token_already_used": "invalid_grant",
    "refresh_token_not_found": "invalid_grant",
    "bad_client_secret": "invalid_client",
    "bad_redirect_uri": "redirect_uri_mismatch",
    "bad_refresh_token": "invalid_grant",
    "bad_verification_code": "invalid_grant",
    "code_already_used": "invalid_grant",
    "code_expired": "invalid_grant",
    "incorrect_client_credentials": "invalid_client",
    "invalid_client_id": "invalid_client",
    "invalid_code": "invalid_grant",
    "invalid_refresh_token": "invalid_grant",
    "token_expired": "invalid_grant",
    "token_revoked": "invalid_grant",
}
# RFC 6749, sections 4.1.2.1 and 5.2; RFC 8707, section 2; OpenID Connect Core 1.0, section 3.1.2.6
_SENTENCES = {
    "access_denied": "The access was not allowed at the provider. Sign in again and allow it.",
    "consent_required": "The provider wants to ask for consent. Press Sign in again.",
    "interaction_required": "The provider wants to ask something. Press Sign in again.",
    "invalid_client": "The provider does not know our client, or not this secret.",
    "invalid_grant": "The provider no longer accepts this sign-in.",
    "invalid_request": "The provider did not understand our request.",
    "invalid_scope": "The provider does not know a scope that was asked for. Check the scopes in Advanced settings. "
    "One that only the server wants is left out after two such answers.",
    "invalid_target": "The provider does not accept the resource that was named. Change it in Advanced settings.",
    "login_required": "The provider wants you to sign in there first. Press Sign in again.",
    "redirect_uri_mismatch": "The provider does not know our redirect URI for this client. Enter it there.",
    "server_error": "The provider had an error of its own. Try again in a while.",
    "temporarily_unavailable": "The provider is overloaded. Try again in a while.",
    "unauthorized_client": "The provider does not let our client sign in this way. Check its settings there.",
    "unsupported_grant_type": "The provider does not support this grant. Change it in Advanced settings.",
    "unsupported_response_type": "The provider does not support the authorization code flow.",
}

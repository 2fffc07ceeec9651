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
        known = error if _is_code(error) else ""
        self.error = known
        self.meaning = _MEANT.get(known, known)
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


def _is_code(error: str) -> bool:
    """Whether it is lower-case words joined by "_", as the standards' codes are, and no secret that was sent back."""
    return re.fullmatch(r"[a-z]+(_[a-z]+)*", error) is not None and len(error) <= 60  # noqa: PLR2004


def _unknown(error: str) -> str:
    return f"The sign-in server refused with the error “{error}”." if error else "The sign-in server refused."


# Codes of providers, and those of the standard for the same: GitHub, Slack.
_MEANT = {
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

"""The three states of a connection, the one word derived from them, and the next step for a person. Pure."""

from __future__ import annotations

from itertools import product

from django.db.models import Q, TextChoices


class CredentialState(TextChoices):
    """Are we let in?"""

    NOT_NEEDED = "not_needed", "Not needed"
    MISSING = "missing", "Missing"
    NEEDS_SIGN_IN = "needs_sign_in", "Needs sign-in"
    READY = "ready", "Ready"
    EXPIRING = "expiring", "Expiring"
    EXPIRED = "expired", "Expired"
    REFUSED = "refused", "Refused"


NOT_LET_IN = frozenset(
    {CredentialState.MISSING, CredentialState.NEEDS_SIGN_IN, CredentialState.EXPIRED, CredentialState.REFUSED}
)


class ReachabilityState(TextChoices):
    """Does the server answer over streamable HTTP?"""

    UNKNOWN = "unknown", "Not checked yet"
    REACHABLE = "reachable", "Reachable"
    BUSY = "busy", "Busy"
    UNREACHABLE = "unreachable", "Unreachable"
    UNSUPPORTED = "unsupported_transport", "Unsupported transport"


class ToolsState(TextChoices):
    """Do we know the tools that the server lists?"""

    NEVER_LISTED = "never_listed", "Never listed"
    IN_SYNC = "in_sync", "In sync"
    TO_REVIEW = "changes_to_review", "Changes to review"
    SET_ASIDE = "set_aside", "All set aside"
    FAILED = "failed", "Listing failed"


class Headline(TextChoices):
    """One word for lists."""

    CONNECTED = "connected", "Connected"
    ACTION_REQUIRED = "action_required", "Action required"
    UNREACHABLE = "unreachable", "Unreachable"
    UNSUPPORTED = "unsupported", "Unsupported"
    BUSY = "busy", "Busy"
    CHECKING = "checking", "Checking"
    DISABLED = "disabled", "Disabled"


TROUBLE = (Headline.ACTION_REQUIRED, Headline.UNREACHABLE, Headline.UNSUPPORTED)  # what needs a person


def headline(*, enabled: bool, credential: str, reachability: str, tools: str) -> Headline:
    """Return the word for these states (values of the choices above); the most pressing fact wins."""
    if not enabled:
        return Headline.DISABLED
    if reachability == ReachabilityState.UNSUPPORTED:
        return Headline.UNSUPPORTED
    if reachability == ReachabilityState.UNREACHABLE:
        return Headline.UNREACHABLE
    if reachability == ReachabilityState.BUSY:
        return Headline.BUSY
    if credential in NOT_LET_IN:
        return Headline.ACTION_REQUIRED
    if reachability == ReachabilityState.UNKNOWN:
        return Headline.CHECKING
    if tools == ToolsState.IN_SYNC:
        return Headline.CONNECTED
    return Headline.CHECKING if tools == ToolsState.NEVER_LISTED else Headline.ACTION_REQUIRED


def shows(*words: Headline) -> Q:
    """Return the condition that the headline is one of these words; the rules are asked, not repeated in SQL."""
    fitting: dict[tuple[bool, str, frozenset[str]], list[str]] = {}
    for enabled, reachability, credential in product([True, False], ReachabilityState, CredentialState):
        tools = frozenset(
            state.value
            for state in ToolsState
            if headline(enabled=enabled, credential=credential, reachability=reachability, tools=state) in words
        )
        if tools:
            fitting.setdefault((enabled, reachability.value, tools), []).append(credential.value)
    matching = Q(pk__in=[])
    for (enabled, reached, tools), credentials in fitting.items():
        matching |= Q(
            enabled=enabled,
            reachability_state=reached,
            credential_state__in=credentials,
            tools_state__in=sorted(tools),
        )
    return matching


NOT_REACHED = frozenset({ReachabilityState.UNREACHABLE, ReachabilityState.UNSUPPORTED, ReachabilityState.BUSY})


def in_order(*, credential: str, reachability: str, tools: str, state: str) -> tuple[str, str, str]:
    """Return the reasons of the three states, the one to begin with first; `state` is that of reachability.

    Nobody can sign in at a server that is not reached, so that comes before the credential.
    """
    return (reachability, credential, tools) if state in NOT_REACHED else (credential, reachability, tools)


def next_step(*reasons: str) -> str:
    """Return what a person should do about the first reason code that needs one, or an empty string."""
    return next((_NEXT_STEPS[reason] for reason in reasons if reason in _NEXT_STEPS), "")


METHOD_WANTED = {  # the authorization method that ends the trouble, by the reason of the credential state
    "sign_in_wanted": "oauth",
    "sign_in_wanted_on_call": "oauth",
    "sign_in_not_needed": "none",
}
_NEXT_STEPS = {
    # credential
    "credential_missing": "Enter the API key or the headers that the server asks for, then press Check now.",
    "unauthorized": "Check the API key or headers with the server's owner and enter them again.",
    "unauthorized_on_call": "Enter a credential that this server accepts for calls, too.",
    "authorization_needed": "Choose API key or Custom headers and enter what the server's owner gave you. If its "
    "documentation says that people sign in, choose OAuth.",
    "sign_in_wanted": "Press Use OAuth and sign in. If the server's owner gave you a key instead, enter that key.",
    "sign_in_wanted_on_call": "Press Use OAuth and sign in. If the server's owner gave you a key instead, enter it.",
    "sign_in_not_needed": "Press Use no authorization.",
    "forbidden": "Do what the server's own words say, or ask its owner to grant this credential access.",
    "access_refused": "Do what the server's own words say, or ask its owner to let us in: it names no way to sign in.",
    "seal_broken": "Enter the credential again: it can no longer be opened.",
    "signing_key_unusable": "Enter another signing key in Advanced settings, or leave it blank to have one made.",
    "secret_of_another_server": "Enter the credential again: what is stored was entered for another server.",
    "organization_suspended": "Ask the staff of the platform: the organization is suspended.",
    "connection_disabled": "Enable the connection first.",
    # credential, personal
    "nobody_connected": "Press Connect and enter your own. Each member does that for the assignments that they own.",
    "owners_not_connected": "Ask the people who are named to open this connection and connect, or give their "
    "assignments another owner.",
    "own_refused": "Ask the people who are named to check what they entered with the server's owner, and to enter it "
    "again.",
    # credential, OAuth
    "sign_in_needed": "Press Sign in and allow the access that the provider shows you.",
    "token_needed": "Press Check now: the client gets its token by itself.",
    "issuer_changed": "Press Sign in: the server now trusts another sign-in server than before.",
    "sign_in_ends": "Press Sign in again before it ends: the provider gave no means to renew it.",
    "sign_in_ended": "Press Sign in again: the provider gave no means to renew the sign-in.",
    "sign_in_revoked": "Press Sign in again: the provider no longer accepts the sign-in.",
    "client_forgotten": "Press Sign in again: the provider has forgotten our registration, and we register anew.",
    "client_refused": "Check the client ID and the client secret in Advanced settings with the provider.",
    "token_refused": "Press Sign in again. If that does not help, ask the server's owner.",
    "signer_left": "Press Sign in again as somebody who stays: an admin of the organization, or a service account.",
    "refresh_failing": "Wait: we keep trying to renew the sign-in. If it goes on, sign in again.",
    "insufficient_scope": "Press Sign in again and allow the permission that is missing.",
    "scope_not_granted": "Ask the server's owner to grant the permission: the provider did not, several times.",
    "client_id_needed": "Open Advanced settings and follow the guide to enter a client ID.",
    "client_secret_needed": "Open Advanced settings and enter the client secret or choose private_key_jwt.",
    "signing_key_needed": "Open Advanced settings and save: with private_key_jwt a key is made or entered there.",
    "client_of_another_issuer": "Enter client ID and secret again: they were entered for another sign-in server.",
    "pkce_missing": "Ask the server's owner whether the sign-in server supports PKCE with S256, which MCP requires. "
    "If it does, say so in Advanced settings.",
    "metadata_unavailable": "Press Check sign-in in a while: what the server says about signing in could not be read.",
    "no_authorization_server": "Ask the server's owner, or choose another authorization method: "
    "the server names no sign-in server.",
    "metadata_refused": "Ask the server's owner: what the server says about signing in cannot be used. If you know "
    "which sign-in server is right, name it in Advanced settings.",
    "registration_refused": "Open Advanced settings and follow the guide: the sign-in server refused to register us.",
    # reachability
    "dns_failed": "Wait: the name server of this host gives no answer. If it goes on, ask who runs it.",
    "host_not_found": "Check the spelling of the server URL: its host name is unknown.",
    "connect_failed": "Check that the server runs and can be reached from the internet on this port.",
    "connect_timeout": "Check that the server runs and that no firewall keeps us out.",
    "connection_lost": "Check the server's own logs: it closed the connection without an answer.",
    "tls_failed": "Ask the server's owner to install a valid certificate for this host name, with all of its chain.",
    "certificate_incomplete": "Ask the server's owner to install the intermediate certificate, too (the full chain).",
    "no_tls": "Check the port in the server URL: what answers there does not speak https.",
    "tls_closed": "Check the server's own logs, and that no firewall or proxy before it turns us away.",
    "tls_timeout": "Check the port in the server URL, and that the server behind it is not stuck.",
    "timed_out": "Check the server's load, or raise the timeouts in Advanced settings.",
    "took_too_long": "Check the server's load: it answers, but so slowly that no check gets to its end.",
    "server_failed": "Check the server's own logs: it answered with an error of its own.",
    "rate_limited": "Wait: the server asks us to slow down. We try again by ourselves.",
    "server_busy": "Wait: we try again by ourselves. If it goes on, look at the server's own logs and load.",
    "old_sse_transport": "Give the server's streamable HTTP address, usually ending in /mcp, or upgrade the server.",
    "not_streamable_http": "Check the server URL: what answers there is not an MCP server. It usually ends in /mcp.",
    "handshake_refused": "Do what the server's own words say, or ask its owner: it refuses to begin.",
    "unexpected_status": "Do what the server's own words say, or ask its owner: it refused what was asked.",
    "taken_for_a_bot": "Ask the server's owner to let this service pass: a guard in front of it stops it.",
    "rpc_error": "Do what the server's own words say, or ask its owner: it answered with an error.",
    "redirected": "Give the address that the server redirects to: redirects are not followed.",
    "sign_in_page": "Ask the server's owner for a way past the page where people sign in, such as a service token to "
    "enter as Custom headers.",
    "unsupported_version": "Ask the server's owner to upgrade it to a current version of MCP.",
    "era_changed": "Press Check now: the server speaks another version of MCP than before.",
    "era_pinned": "Set Protocol era to “Detect automatically” in Advanced settings, unless the server's own words name "
    "another reason.",
    "bad_answer": "Ask the server's owner: its answers do not follow the protocol.",
    "answer_too_large": "Ask the server's owner to make its answers smaller.",
    "not_http": "Check the server URL and its port: what answers there is not a web server.",
    "private_address": "Use an address that is reachable over the internet.",
    # tools
    "all_set_aside": "Open Tools: each tool says why it cannot be used, for the server's owner to mend it.",
    "tools_set_aside": "Open Tools: each tool that cannot be used says why, for the server's owner to mend it.",
    "tools_to_review": "Open Tools, look at what is new or changed, and approve what may be used.",
    "no_tools": "Ask the server's owner whether this is the right address: the server there offers no tools.",
    "quota_reached": "Delete what your organization does not need, or ask the platform's staff for more.",
    "listing_too_large": "Ask the server's owner: it lists too many tools for one connection.",
    "listing_never_ends": "Ask the server's owner: its list of tools does not end.",
    "listing_failed": "Press Check now; if it fails again, ask the server's owner.",
}

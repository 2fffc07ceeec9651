"""The views of signing in: the buttons of a connection's page, the callback, and the documents that servers read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from connections import audit, checking, egress, names
from connections.egress import sealed
from connections.errors import DuvoError, SealBroken, SealKeyUnknown
from connections.models import Authorization, Connection, Credential, Grant, User
from connections.states import next_step
from connections.tenancy import person
from oauth import credential_state, discovering, flow, registering, report, responses, ways_in
from oauth.errors import CallbackRefused
from oauth.protocol.choices import ClientKind
from oauth.responses import AuthorizationResponse

_DOCUMENT_AGE = 3600  # seconds that servers may keep our documents


@require_POST
def sign_in(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    """Send the browser to the provider; with `again` the provider is to ask for consent anew."""
    connection = _connection(request, connection_id)
    if not responses.may_sign_in(person(request), connection):
        raise PermissionDenied
    try:
        if connection.oauth_grant == Grant.CLIENT_CREDENTIALS:
            flow.fetch_tokens(connection)
            checking.request_check(connection)
            messages.success(request, "The token was fetched. The connection is being checked.")
            return _to_its_page(connection)
        url = flow.begin(
            connection, user=person(request), session_key=_session_key(request), anew=bool(request.POST.get("again"))
        )
    except DuvoError as failure:
        messages.error(request, failure.sentence)
        return _to_its_page(connection)
    return HttpResponseRedirect(url)


@require_POST
def take_offered_method(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    """Change the connection to the authorization method that its page offers; to OAuth, begin the sign-in at once."""
    connection = _page().get_object(request, str(connection_id))
    if connection is None:
        raise Http404
    if not _page().has_change_permission(request, connection):
        raise PermissionDenied
    offer = ways_in.offered(connection)
    if offer is None:
        messages.info(request, "By now no other authorization method is offered. Nothing was changed.")
        return _to_its_page(connection)
    try:
        ways_in.take(connection, offer, person(request))
    except DuvoError as failure:
        messages.error(request, failure.sentence)
        return _to_its_page(connection)
    removed = f" Removed: {offer.removed}." if offer.removed else ""
    messages.success(request, f"The authorization method is {offer.method.label} now.{removed}")
    if not offer.signs_in:
        return _to_its_page(connection)
    left_for = sign_in(request, connection_id)["Location"]
    if left_for == _address(connection):
        return _to_its_page(connection)
    # The page that this was pressed on lets no form lead to a provider, not even by a redirect, so a page goes there.
    context = {"url": left_for, "host": urlsplit(left_for).netloc, "back": _address(connection)}
    return TemplateResponse(request, "oauth/leaving.html", context)


@require_POST
def sign_out(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    """Revoke and delete the tokens."""
    connection = _connection(request, connection_id)
    if not responses.may_sign_in(person(request), connection):
        raise PermissionDenied
    messages.success(request, flow.sign_out(connection, user=person(request)))
    return _to_its_page(connection)


@require_POST
def check_sign_in(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    """Run the discovery of the connection's server again; its page shows the steps."""
    connection = _connection(request, connection_id)
    if not _page().has_change_permission(request, connection):
        raise PermissionDenied
    try:
        conclusion = discovering.discover_and_store(connection)
    except SealBroken as failure:
        messages.error(request, failure.sentence)
        return _to_its_page(connection)
    credential_state.settle(connection)
    level = messages.WARNING if conclusion.refusal else messages.SUCCESS
    messages.add_message(request, level, conclusion.sentence)
    return HttpResponseRedirect(f"{_address(connection)}#sign-in-steps")


@require_POST
def check_before_saving(request: HttpRequest) -> HttpResponse:
    """Run the discovery of the server that a form names and show the steps; nothing is stored, no secret is sent.

    Where the form leaves the authorization method open, the outcome proposes one, and a name.
    """
    if not _page().has_add_permission(request):
        raise PermissionDenied
    try:
        url = egress.without(sealed.with_place(egress.check_url(request.POST.get("server_url", "").strip())))
        trusted = request.POST.get("oauth_authorization_server", "").strip()
        trusted = egress.check_url(trusted) if trusted else ""
    except DuvoError as failure:
        return _outcome(request, failure, failure.sentence)
    if request.POST.get("authorization") == "":
        return _proposed(request, url)
    client_id, grant = request.POST.get("oauth_client_id", ""), request.POST.get("oauth_grant", "")
    grant = grant if grant in Grant.values else Grant.AUTHORIZATION_CODE.value
    wanted = discovering.Settings(
        url, client_id.strip(), grant,
        authorization_server=trusted, assume_pkce=bool(request.POST.get("oauth_assume_pkce")),
    )  # fmt: skip
    conclusion = discovering.discover(wanted)
    steps = report.marked([asdict(step) for step in conclusion.steps], stopped=conclusion.refusal is not None)
    return _outcome(request, conclusion.refusal, conclusion.sentence, steps)


@require_POST
def register_again(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    """Retire the dynamic registration; the next sign-in registers anew."""
    connection = _connection(request, connection_id)
    if not _page().has_change_permission(request, connection):
        raise PermissionDenied
    retired = [row for row in connection.registrations.filter(retired_at=None) if row.kind == ClientKind.DCR]
    for registration in retired:
        registration.retire("asked")
        audit.record(
            person(request), "connection.registration_retired", connection, tenant=connection.tenant,
            issuer=registration.issuer,
        )  # fmt: skip
    messages.success(
        request,
        "The registration was retired. Press Sign in again to register anew." if retired else "Nothing was registered.",
    )
    return HttpResponseRedirect(f"{_address(connection)}#sign-in")


@never_cache
@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """Complete a sign-in when the browser is back; a page of its own says why it cannot be completed."""
    if not admin.site.has_permission(request) or not isinstance(request.user, User):
        return _failed(
            request,
            CallbackRefused(
                "You are not signed in here, or no longer. Sign in to this site, open the connection and press "
                "Sign in again.",
                code="no_session",
            ),
        )
    answer = AuthorizationResponse(
        user=person(request),
        session_key=_session_key(request),
        state=request.GET.get("state", ""),
        code=request.GET.get("code", ""),
        error=request.GET.get("error", ""),
        iss=request.GET.get("iss"),
    )
    try:
        completed = flow.complete(answer)
    except SealKeyUnknown:  # the same address works in a moment: the person is asked to wait
        raise
    except DuvoError as failure:
        return _failed(request, failure, responses.connection_of(answer))
    if completed.again_at:
        return HttpResponseRedirect(completed.again_at)
    as_whom = f" as {completed.account}" if completed.account else ""
    messages.success(request, f"Signed in{as_whom}. The connection is being checked, and its tools are listed.")
    if completed.account_before:
        messages.warning(
            request,
            f"That is another account at the provider than before, which was {completed.account_before}. If that was "
            "not meant, sign out and sign in again.",
        )
    return _to_its_page(completed.connection)


@require_GET
def client_metadata(request: HttpRequest) -> HttpResponse:
    """Answer with our client ID metadata document."""
    return _document(registering.cimd_document())


@require_GET
def key_set(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    """Answer with the public keys of a connection's client (RFC 7517); an unknown connection has none."""
    keys = Credential.objects.filter(
        connection=connection_id, connection__authorization=Authorization.OAUTH, owner=None,
        kind=Credential.Kind.OAUTH_SIGNING_KEY,
    ).exclude(public_half={})  # fmt: skip
    return _document({"keys": list(keys.values_list("public_half", flat=True))})


def _document(body: dict[str, object]) -> HttpResponse:
    return JsonResponse(body, headers={"Cache-Control": f"public, max-age={_DOCUMENT_AGE}"})


def _page() -> admin.ModelAdmin[Connection]:
    return admin.site.get_model_admin(Connection)


def _connection(request: HttpRequest, connection_id: UUID) -> Connection:
    """Return a connection that this person sees; raises Http404 for a stranger's as for none."""
    connection = _page().get_object(request, str(connection_id))
    if connection is None or connection.authorization != Authorization.OAUTH:
        raise Http404
    return connection


def _session_key(request: HttpRequest) -> str:
    return request.session.session_key or ""


def _address(connection: Connection) -> str:
    return reverse("admin:connections_connection_change", args=[connection.pk])


def _to_its_page(connection: Connection) -> HttpResponse:
    return redirect(_address(connection))


def _outcome(
    request: HttpRequest, refusal: DuvoError | None, sentence: str, steps: list[dict[str, Any]] | None = None
) -> TemplateResponse:
    context = {
        **admin.site.each_context(request),
        "title": "Check sign-in",
        "good": refusal is None,
        "sentence": sentence,
        "step": next_step(refusal.code) if refusal else "",
        "steps": steps or [],
    }
    return TemplateResponse(request, "admin/oauth/look.html", context)


def _proposed(request: HttpRequest, url: str) -> HttpResponse:
    conclusion = discovering.discover(discovering.Settings(url))
    proposal = ways_in.proposal(conclusion, url)
    steps = report.marked([asdict(step) for step in conclusion.steps], stopped=proposal.method is None)
    response = _outcome(request, None, proposal.sentence, steps)
    response.context_data = (response.context_data or {}) | {
        "good": proposal.method is not None,
        "step": proposal.step,
        "address": proposal.address,
        "method": proposal.method.value if proposal.method else "",
        "name": names.of_host(urlsplit(url).hostname or ""),
    }
    return response


def _failed(request: HttpRequest, failure: DuvoError, connection: Connection | None = None) -> HttpResponse:
    context = {
        **admin.site.each_context(request),
        "title": "The sign-in was not completed",
        "sentence": failure.sentence,
        "connection": connection,
        "back": _address(connection) if connection else reverse("admin:index"),
    }
    return TemplateResponse(request, "oauth/callback.html", context, status=400)

"""The inbox: one page for everything that waits for a person, and its number for the header of every page."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET, require_POST

from connections.errors import SealBroken
from connections.models import User
from connections.tenancy import person
from tools.admin.decisions import RefusalForm
from tools.calls import disclosure, ending, offers
from tools.definitions.difference import visible
from tools.inbox import handling, rows, things
from tools.inbox.kinds import Kind
from tools.inbox.things import Thing
from tools.models import Call
from tools.payloads.raw_json import RawJson

DONE = "That is done already, or was never there."
LONGEST_ASKED = 240  # characters of arguments that are decided about on this page; longer ones on the call's own
SHOWN = 50  # things on one page
_PAGE = re.compile("[1-9][0-9]{0,2}")


def urls(site: AdminSite) -> list[URLPattern]:
    """Return the addresses of the inbox."""
    view = site.admin_view
    return [
        path("inbox/", view(require_GET(lambda request: show(site, request))), name="inbox"),
        path("inbox/count/", view(require_GET(count)), name="inbox_count"),
        path("inbox/assign/", view(require_POST(assign)), name="inbox_assign"),
    ]


def words(user: User, *, others: bool = False) -> dict[str, Any]:
    """Return how much waits for this person, as the header of each page says it, and a digest of what it is."""
    found = things.listed(user, 0, things.MOST, others=True) if others else things.newest(user)
    number = len(found)
    shown = f"{things.MOST - 1}+" if number == things.MOST else str(number)
    return {"count": number, "label": f"Inbox ({shown})" if number else "Inbox", "stamp": things.stamp_of(found)}


def count(request: HttpRequest) -> JsonResponse:
    """Return what the header says, for the script that keeps it up to date."""
    said = words(person(request), others=request.GET.get("whose") == "others")
    request.session.modified = False  # nobody has asked for it: a page left open must not keep its person signed in
    return JsonResponse(said)


def show(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Show what waits; `ask` names an approval to be decided here, `give` a thing to be given to somebody."""
    user = person(request)
    asked = _asked(request, user)
    if isinstance(asked, HttpResponse):
        return asked
    chosen = _chosen(request)
    page = _page_number(request)
    plain = page == 1 and not any(chosen.values())
    found = things.newest(user) if plain else things.listed(user, (page - 1) * SHOWN, SHOWN + 1, **chosen)
    shown = rows.of(found[:SHOWN])
    query = {name: value for name, value in request.GET.items() if name in ("whose", "kind", "organization")}
    context = {
        **site.each_context(request),
        "title": "Inbox",
        "rows": shown,
        "asked": asked,
        "giving": _giving(request, user),
        "several": user.is_superuser or len(user.roles) > 1,
        "organizations": sorted({row.tenant for row in shown}, key=str),
        "kinds": Kind.choices,
        "whose": "others" if chosen["others"] else "",
        "kind": chosen["kind"],
        "organization": chosen["tenant"],
        "narrowed": bool(query),
        "query": urlencode(query),
        "following": f"?{urlencode(query | {'page': page + 1})}" if len(found) > SHOWN else "",
        "stamp": words(user, others=chosen["others"])["stamp"],
    }
    return TemplateResponse(request, "admin/inbox.html", context)


def assign(request: HttpRequest) -> HttpResponse:
    """Give a thing to an admin of its organization, to oneself ("me") or to nobody ("")."""
    user = person(request)
    thing = things.found(user, request.POST.get("key", ""))
    if thing is None:
        messages.warning(request, DONE)
        return HttpResponseRedirect(reverse("admin:inbox"))
    sent, admins = request.POST.get("member", ""), handling.who_may_have(thing)
    members = {"me" if member.user_id == user.pk else str(member.pk): member for member in admins}
    members |= {str(member.pk): member for member in members.values()}
    if sent and sent not in members:
        raise Http404
    handling.give(thing, members[sent] if sent else None, by=user)
    whose = members[sent].user.get_username() if sent else "nobody"
    messages.success(request, f"{whose} has it now." if sent else "Nobody has it now.")
    return HttpResponseRedirect(reverse("admin:inbox"))


def _chosen(request: HttpRequest) -> dict[str, Any]:
    kind, tenant = request.GET.get("kind", ""), request.GET.get("organization", "")
    return {
        "others": request.GET.get("whose") == "others",
        "kind": kind if kind in Kind.values else "",
        "tenant": tenant if _can_be_id(tenant) else "",
    }


def _can_be_id(sent: str) -> bool:
    with suppress(ValueError):
        return str(UUID(sent)) == sent
    return False


def _page_number(request: HttpRequest) -> int:
    sent = request.GET.get("page", "1")
    return int(sent) if _PAGE.fullmatch(sent) else 1


def _giving(request: HttpRequest, user: User) -> dict[str, Any] | None:
    """Return the thing that is to be given to somebody, with who may have it."""
    key = request.GET.get("give")
    thing = things.found(user, key) if key else None
    return {"key": thing.key, "admins": handling.who_may_have(thing)} if thing else None


def _asked(request: HttpRequest, user: User) -> dict[str, Any] | HttpResponse | None:
    """Return what to decide about on this page; the page of the call, where it does not fit on three lines."""
    key = request.GET.get("ask")
    if not key:
        return None
    thing = things.found(user, key)
    call = _call_of(thing) if thing and thing.kind == Kind.APPROVAL else None
    if thing is None or call is None:
        messages.warning(request, DONE)
        return HttpResponseRedirect(reverse("admin:inbox"))
    arguments = _short(user, call)
    if arguments is None or ending.of(call) or offers.replaced(call):
        return HttpResponseRedirect(reverse("admin:tools_call_change", args=[call.pk]))
    return {"key": thing.key, "call": call, "arguments": arguments, "form": RefusalForm(auto_id="refusal_%s")}


def _call_of(thing: Thing) -> Call | None:
    return Call.objects.filter(pk=thing.rows[0], tenant=thing.tenant).select_related("connection", "token").first()


def _short(user: User, call: Call) -> str | None:
    """Return the arguments of a call in one line, which is a read; None where they are too long, or lost."""
    try:
        arguments, _ = disclosure.read_by(user, call)
    except SealBroken:
        return None
    if isinstance(arguments, RawJson):
        return None
    text = visible(orjson.dumps(arguments).decode())
    return text if len(text) <= LONGEST_ASKED else None

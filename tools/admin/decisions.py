"""What an organization admin decides about a call: approve, refuse or cancel it, answer its question, make it again."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.crypto import constant_time_compare, salted_hmac
from django.views.decorators.http import require_POST

from connections import offload
from connections.errors import DuvoError, SealBroken
from connections.tenancy import ADMINS_AND_AUDITORS, ReadOnlyAdmin, person
from tools.admin.questions import ACTIONS, QuestionForm, forms_of, responses_of
from tools.calls import acting, again, answering, disclosure, life
from tools.errors import AnswersRefused, Ended, NotAsked, OrganizationSuspended, ToolReplaced
from tools.models import Call
from tools.models.call_states import CallState

LATE = "Too late: somebody has decided this call before, or nobody did in time."
ENDED = "This call had ended already."
NOT_ENDED = "Nothing was sent: only a call that has ended is made again, by the button on its page."
ASKED_ANOTHER = "This question has been answered meanwhile, or the server asks something else now. Nothing was sent."
UNFIT = "Nothing was sent: what is marked below does not fit."
_SENT = {"accept": "The answer is sent.", "decline": "The question is declined.", "cancel": "Answered with nothing."}


class RefusalForm(forms.Form):
    """Why a call is refused."""

    reason = forms.CharField(
        label="Reason", max_length=200, required=False, help_text="The program that made the call is told."
    )


class PressForm(forms.Form):
    """One wish to make a call again: pressed twice, it is one call."""

    press = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)


class DecisionAdmin(ReadOnlyAdmin):
    """The buttons on the page of a call; only admins of its organization may press them."""

    seen_by = ADMINS_AND_AUDITORS

    def get_urls(self) -> list[URLPattern]:
        """Add the URLs of the buttons."""
        view = self.admin_site.admin_view
        buttons = {
            "approve": self.approve_view, "refuse": self.refuse_view, "answer": self.answer_view,
            "cancel": self.cancel_view, "again": self.again_view,
        }  # fmt: skip
        return [
            *(
                path(f"<path:object_id>/{name}/", view(require_POST(button)), name=f"tools_call_{name}")
                for name, button in buttons.items()
            ),
            *super().get_urls(),
        ]

    def may_decide(self, request: HttpRequest, call: Call) -> bool:
        """Whether this person is an admin of the call's organization."""
        return self._has_role(request, self.changed_by, call)

    def audit(self, request: HttpRequest, verb: str, row: Call, **data: Any) -> None:
        """Record what this person did to the call, and which account at the provider it was made with."""
        super().audit(request, verb, row, **(row.whose_account | data))

    def page(self, request: HttpRequest, call: Call, **more: Any) -> HttpResponse:
        """Return the page of a call."""
        raise NotImplementedError

    def questions_of(
        self, request: HttpRequest, call: Call, filled: list[QuestionForm] | None = None
    ) -> dict[str, Any] | None:
        """Return the forms of what the server asks, as they were filled in or new; None when it asks nothing.

        They are shown to this person, which is a read.
        """
        question = _question(request, call)
        return {"forms": filled or forms_of(question), "mark": _mark(call)} if question else None

    def approve_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Approve the call, so that it is made."""
        call = self._get_changeable(request, object_id)
        try:
            approved = life.approve(call, by=person(request).get_username())
        except (Ended, OrganizationSuspended) as end:
            self.audit(request, "approved", call, outcome=end.code)
            self.message_user(request, f"Nothing was sent. {end.sentence}", messages.ERROR)
            return self._back(request, call)
        except ToolReplaced as other:
            self.message_user(request, other.sentence, messages.ERROR)
            return self._back(request, call)
        if approved:
            self.audit(request, "approved", call)
            self.message_user(request, "Approved: the call is on its way.", messages.SUCCESS)
        else:
            self.message_user(request, LATE, messages.WARNING)
        return self._back(request, call)

    def refuse_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End the call before anything is sent."""
        call = self._get_changeable(request, object_id)
        form = RefusalForm(request.POST)
        if not form.is_valid():
            self.message_user(request, f"Reason: {form.errors['reason'][0]}", messages.ERROR)
        elif life.refuse(call, by=person(request).get_username(), reason=form.cleaned_data["reason"]):
            self.audit(request, "refused", call, reason=form.cleaned_data["reason"])
            self.message_user(request, "Refused: nothing was sent.", messages.SUCCESS)
        else:
            self.message_user(request, LATE, messages.WARNING)
        return self._back(request, call)

    def answer_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer exactly the question that the page showed; a fault is shown at its field."""
        call = self._get_changeable(request, object_id)
        action, question = request.POST.get("action"), _question(request, call)
        if action not in ACTIONS:
            raise Http404
        if question is None or not constant_time_compare(request.POST.get("mark", ""), _mark(call)):
            self.message_user(request, ASKED_ANOTHER, messages.WARNING)
            return self._back(request, call)
        filled = forms_of(question, request.POST)
        responses = responses_of(filled, action)
        if responses is not None and (refusal := self._refusal_for(request, call, responses)):
            self.message_user(request, refusal, messages.ERROR)
            return self._back(request, call)
        if responses is not None and self._answer(request, call, responses, filled):
            return self._back(request, call)
        self.message_user(request, UNFIT, messages.ERROR)
        return self.page(request, call, questions=self.questions_of(request, call, filled))

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End the call, within a second, wherever it runs."""
        call = self._get_changeable(request, object_id)
        if call.finished:
            self.message_user(request, ENDED, messages.WARNING)
        else:
            life.cancel(call)
            self.audit(request, "cancelled", call)
            self.message_user(request, "The call is being cancelled.", messages.SUCCESS)
        return self._back(request, call)

    def again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask once more for what an ended call has asked for, and lead to the new call."""
        call = self._get_changeable(request, object_id)
        pressed = PressForm(request.POST)
        if not call.finished or not pressed.is_valid():
            self.message_user(request, NOT_ENDED, messages.WARNING)
            return self._back(request, call)
        try:
            made = again.make_again(call, person(request), f"again-{pressed.cleaned_data['press']}")
        except DuvoError as refusal:
            self.message_user(request, f"Nothing was sent. {refusal.sentence}", messages.ERROR)
            return self._back(request, call)
        new = Call.objects.get(pk=made.id)
        if not made.replayed:
            self.audit(request, "made_again", new, call=str(call.pk))
            if call.assignment is not None and acting.acts_for_its_owner(call):
                with transaction.atomic():
                    acting.notify_owner(call.assignment, person(request), f"made a call of {call.tool_name} again")
        self.message_user(request, "This is the new call.", messages.SUCCESS)
        return self._back(request, new)

    def _answer(self, request: HttpRequest, call: Call, responses: dict[str, Any], filled: list[QuestionForm]) -> bool:
        """Send the responses; False when they do not fit, which the forms then show."""
        actions = [response["action"] for response in responses.values()]
        try:
            answering.answer(call, responses)
        except AnswersRefused as refusal:
            for form in filled:
                form.add_faults(refusal.faults)
            return False
        except NotAsked:
            self.message_user(request, ASKED_ANOTHER, messages.WARNING)
        except (Ended, OrganizationSuspended) as end:
            self.message_user(request, f"Nothing was sent. {end.sentence}", messages.ERROR)
        except ToolReplaced as other:
            self.message_user(request, other.sentence, messages.ERROR)
        except (offload.TooMuchWork, offload.Crowded, offload.Broken) as full:
            self.message_user(request, f"Nothing was sent. {full.sentence}", messages.ERROR)
            return False
        else:
            self.audit(request, "answered", call, actions=actions)
            if "accept" in actions and call.assignment is not None and acting.acts_for_its_owner(call):
                with transaction.atomic():
                    acting.notify_owner(call.assignment, person(request), "answered what a server asked")
            self.message_user(request, _SENT["accept" if "accept" in actions else actions[0]], messages.SUCCESS)
        return True

    @staticmethod
    def _refusal_for(request: HttpRequest, call: Call, responses: dict[str, Any]) -> str:
        """Return why this person may not accept, which acts as the owner, or ""; any admin may decline."""
        accepts = any(response["action"] == "accept" for response in responses.values())
        if not accepts or call.assignment is None or not acting.acts_for_its_owner(call):
            return ""
        refusal = acting.refusal_for(person(request), call.assignment)
        return f"Nothing was sent. {refusal} You may decline, or answer nothing." if refusal else ""

    def _get_changeable(self, request: HttpRequest, object_id: str) -> Call:
        call: Call = self.get_object(request, unquote(object_id))
        if not self.may_decide(request, call):
            raise PermissionDenied
        return call

    @staticmethod
    def _back(request: HttpRequest, call: Call) -> HttpResponse:
        """Return to where the button was: the inbox, or the page of the call."""
        if request.POST.get("from") == "inbox":
            return HttpResponseRedirect(reverse("admin:inbox"))
        return HttpResponseRedirect(reverse("admin:tools_call_change", args=[call.pk]))


def _question(request: HttpRequest, call: Call) -> dict[str, Any] | None:
    """Return what waits for an answer, if anything does and it can be opened; this person's read is noted."""
    if call.state != CallState.INPUT_REQUIRED or call.sealed_answers:
        return None
    try:
        return disclosure.question_by(person(request), call)
    except SealBroken:
        return None


def _mark(call: Call) -> str:
    """Return a digest that distinguishes a call's questions: an answer is only for the one that the page showed."""
    return salted_hmac("tools.admin.decisions", call.sealed_question).hexdigest()[:32]

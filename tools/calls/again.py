"""A call that has ended is made again, as an admin wishes it: a new call, as if its program had asked once more.

It is opened like any other, with the token of the first one: whatever would refuse the program refuses this.
"""

from __future__ import annotations

from connections import egress
from connections.models import User
from tools.callers import Principal
from tools.calls import acting, life, offers
from tools.calls.outcomes import Report
from tools.errors import ActingRefused, CallerGone, OrganizationSuspended, ToolReplaced
from tools.models import Call

GONE = "The token with which it was made is gone: its program has to ask again, with another."
ANOTHER = "Its tool, the tool's definition or its server is another one since: its program has to ask again."


def make_again(call: Call, by: User, key: str) -> Report:
    """Ask once more for what an ended call has asked for, for the same assignment; a worker makes the new call.

    `key` is what one wish is known by: with the same key it is the same new call. Raises SealBroken and SealKeyUnknown
    when the arguments cannot be opened, ToolReplaced when they would go elsewhere than those of the first call,
    ActingRefused when the call would act as another person who has not consented, CallerGone, OrganizationSuspended,
    and what `life.start` raises; in all cases nothing was sent.
    """
    if call.assignment is None or call.token_id is None:
        raise CallerGone(GONE)
    if call.tenant.suspended_at is not None:
        raise OrganizationSuspended
    if call.tool_id is None or offers.replaced(call) is not None:
        raise ToolReplaced(ANOTHER)
    if acting.acts_for_its_owner(call) and (refusal := acting.refusal_for(by, call.assignment)):
        raise ActingRefused(refusal)
    asker = Principal(call.token_id, call.tenant_id, call.assignment.pk, role=None, user_id=None)
    try:
        return egress.run(
            life.start(
                asker, call.tool_name, call.arguments_to_send(), wait=0, in_worker=True, idempotency_key=key,
                session=call.session_name,
            )
        )  # fmt: skip
    except CallerGone as gone:
        raise CallerGone(GONE) from gone

"""How a process that makes calls ends, so that each call that it has in hand gets a known end.

From the moment it is told to stop, nobody waits here for what others make: whoever does is answered with the call's
address. What this process makes itself has so many seconds to end. The rest is cut off then: what may be made again is
left to other processes, and every other call ends as `outcome_unknown` at once, and not when the sweeper finds it.
"""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

from connections.telling import tell
from tools.calls import runs, watching

_SETTLES = 10.0  # seconds in which the rows of calls that were cut off are written

logger = logging.getLogger(__name__)
_endings: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()


def begin(grace: float) -> asyncio.Task[None]:
    """Begin to end the calls of this event loop, if that has not begun; the task is done when none is left."""
    loop = asyncio.get_running_loop()
    if loop not in _endings:
        watching.answer_callers()
        _endings[loop] = loop.create_task(_end(grace))
    return _endings[loop]


async def _end(grace: float) -> None:
    left = await runs.ended_within(grace)
    if not left:
        return
    tell(logger, "This process ends, and calls are cut off.", logging.WARNING, calls=len(left))
    watching.cut_off()
    await runs.ended_within(_SETTLES)

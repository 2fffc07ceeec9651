"""Where the calls of a tool run and how long they may take, as an organization admin sets it."""

from __future__ import annotations

from django.conf import settings

from connections.forms import ShownForm
from connections.forms.fields import seconds
from tools.models import Tool


class PlacementForm(ShownForm):
    """Where calls of a tool run, and its own timeouts."""

    changed_by = ("placement_set",)
    idle_timeout = seconds("Idle timeout", 600, "Seconds without any sign of life. Blank: the connection's.")
    call_timeout = seconds("Call timeout", settings.LONGEST_CALL, "Seconds in all. Blank: the connection's.")

    class Meta:
        model = Tool
        fields = ["placement", "idle_timeout", "call_timeout"]
        help_texts = {"placement": "In the queue, a call that takes long holds nobody up."}

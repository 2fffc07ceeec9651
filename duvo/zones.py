"""In which time zone a request begins."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils import timezone

from duvo.middleware import Middleware


class TimeZoneMiddleware(Middleware):
    """Begin each request in UTC: pages of the admin choose the zone of their reader, and a thread sees many people."""

    def before(self, request: HttpRequest) -> None:
        """Forget the zone of the request before."""
        timezone.deactivate()

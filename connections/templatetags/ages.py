"""How long ago something was, in words."""

from __future__ import annotations

from django import template

from connections.ages import ago

register = template.Library()
register.filter("ago", ago)

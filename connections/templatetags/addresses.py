"""Addresses of servers as everybody may see them."""

from __future__ import annotations

from django import template

from connections import egress

register = template.Library()


@register.filter
def bare(url: str) -> str:
    """Return scheme, host and path of a server's address, without what may be a credential."""
    return egress.bare(url)

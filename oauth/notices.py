"""Telling people that a sign-in will end or has ended."""

from __future__ import annotations

from oauth.models import SignIn


def tell(sign_in: SignIn) -> None:
    """Tell who has to know how this sign-in stands, if it stands badly; says the same thing only once."""

"""Notices are told here of what most of them are about: sign-ins that end."""

from __future__ import annotations

from tests.oauth.conftest import scene  # noqa: F401 - a fixture

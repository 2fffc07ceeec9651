"""The doors of the workers."""

from __future__ import annotations

from celery import shared_task

from connections.sessions import SessionStore


@shared_task(name="connections.forget_sessions")
def forget_sessions() -> None:
    """Delete the sessions that are over."""
    SessionStore.clear_expired()

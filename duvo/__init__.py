"""The frame: settings, URLs, processes. Celery's application is loaded with it, so that tasks find it."""

from duvo.celery import app as celery_app

__all__ = ["celery_app"]

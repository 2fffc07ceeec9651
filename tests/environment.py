"""What the product reads from its environment, set before Django's settings are imported (`-p tests.environment`).

The first process of a run starts PostgreSQL, and xdist's processes make databases of their own in it. Each of them
starts its own Valkey: what a worker takes from the broker is then always of its own test.
"""

from __future__ import annotations

import base64
import os
from typing import Any

os.environ["ENV_FILE"] = os.devnull  # a developer's .env, or compose.yaml's, says nothing here
os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 40)
os.environ.setdefault("SEAL_KEYS", base64.urlsafe_b64encode(b"only-for-tests-seal-key-32-bytes").decode())
os.environ.setdefault("PUBLIC_URL", "http://127.0.0.1")
os.environ.setdefault("ALLOWED_HOSTS", "testserver,127.0.0.1,localhost")
os.environ.setdefault("LOG_FORMAT", "text")

from django.conf import LazySettings

from tests.servers import postgres, valkey

_DJANGOS_OWN = LazySettings.__setattr__


def _replace(settings: LazySettings, name: str, value: Any) -> None:
    """Set an attribute of the settings, so that a thread of the product can read a setting at any moment.

    When a test changes a setting Django clears `__dict__` and then stores the new settings in it. In between,
    whatever a thread reads is "'NoneType' object has no attribute".
    """
    if name != "_wrapped":
        _DJANGOS_OWN(settings, name, value)
        return
    known = settings.__dict__
    known[name] = value
    for cached in known.keys() - {name}:
        known.pop(cached, None)


LazySettings.__setattr__ = _replace  # type: ignore[method-assign]

postgres.start()
valkey.start()

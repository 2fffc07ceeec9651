"""What the product reads from its environment, set before Django's settings are imported (`-p tests.environment`).

The first process of a run starts PostgreSQL, and xdist's processes make databases of their own in it. Each of them
starts its own Valkey: what a worker takes from the broker is then always of its own test.
"""

from __future__ import annotations

import base64
import os

os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 40)
os.environ.setdefault("SEAL_KEYS", base64.urlsafe_b64encode(b"only-for-tests-seal-key-32-bytes").decode())
os.environ.setdefault("PUBLIC_URL", "http://127.0.0.1")
os.environ.setdefault("ALLOWED_HOSTS", "testserver,127.0.0.1,localhost")
os.environ.setdefault("LOG_FORMAT", "text")

from tests.servers import postgres, valkey

postgres.start()
valkey.start()

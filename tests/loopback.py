"""How tests speak to servers on loopback: plain http, and no proxy."""

from __future__ import annotations

import ssl

# Without authorities: reading them takes 40 ms for every client, and each request of `live.Api` is a new one.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

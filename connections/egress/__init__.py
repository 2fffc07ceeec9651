"""The only way out to the network: every request to a URL that somebody else chose passes here.

check_url     what a person entered, judged without I/O
origin        whose server a URL leads to: what a secret is kept for
pool          connections of the running event loop; https to public addresses, TLS against the URL's host name
client        httpx2 over that pool: for everything that is not the call path
fetch         one whole exchange with caps on size and time
reach         DNS, TCP and TLS only; `observe` collects their stages for a report
plain         a body without its compression
sealed        the part of an address that is filled in at the moment of sending
run, submit   from synchronous code; `bounded` puts one limit over all of it

A Request goes through the pool (pool.py) on a Connection (connection.py), whose Wire (wire.py) writes it and reads the
Response; the address that the Wire leads to was checked right before (network.py).
"""

from connections.egress.client import Answer, Body, Transport, client, fetch
from connections.egress.connection import Connection, Response
from connections.egress.decoding import plain
from connections.egress.loop import NotWanted, bounded, run, submit
from connections.egress.network import PinnedBackend, Resolver, reach, resolve, tls_context
from connections.egress.pool import GuardedPool, aclose, pool
from connections.egress.record import Step, observe
from connections.egress.request import STREAM, UNSENDABLE, Request
from connections.egress.sealed import bare, without
from connections.egress.urls import LONGEST_URL, check_hop, check_url, origin, secret_in
from connections.errors import AnswerRefused, Refused, Unreachable

__all__ = [
    "LONGEST_URL",
    "STREAM",
    "UNSENDABLE",
    "Answer",
    "AnswerRefused",
    "Body",
    "Connection",
    "GuardedPool",
    "NotWanted",
    "PinnedBackend",
    "Refused",
    "Request",
    "Resolver",
    "Response",
    "Step",
    "Transport",
    "Unreachable",
    "aclose",
    "bare",
    "bounded",
    "check_hop",
    "check_url",
    "client",
    "fetch",
    "observe",
    "origin",
    "plain",
    "pool",
    "reach",
    "resolve",
    "run",
    "secret_in",
    "submit",
    "tls_context",
    "without",
]

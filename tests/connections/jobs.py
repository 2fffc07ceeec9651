"""Pieces of work that behave badly, for `connections.offload`."""

from __future__ import annotations

import os
import signal
import time


def same(part: bytes) -> list[bytes]:
    return [part]


def who() -> list[bytes]:
    return [b"%d" % os.getpid(), repr(dict(os.environ)).encode()]


def spin() -> list[bytes]:
    while True:
        pass


def sleep(until: bytes) -> list[bytes]:
    while not os.path.exists(until):  # noqa: PTH110
        time.sleep(0.01)
    return []


def eat() -> list[bytes]:
    eaten = []
    while True:
        eaten.append(bytes(10_000_000))


def grow() -> list[bytes]:
    return [b"%d" % os.getpid(), b"%d" % len(bytearray(os.urandom(1) * 250_000_000))]


def die() -> list[bytes]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def fail() -> list[bytes]:
    raise ValueError("the secret of acme")

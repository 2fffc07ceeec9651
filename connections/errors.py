"""Errors that every package may raise, named for what the caller can do about it.

DuvoError                 every error of the product; carries a stable code and a sentence
├── Refused               the egress will not go there: bad URL, private address, forbidden port
│   └── AnswerRefused     the answer is too large or compressed; the request had been sent
├── Unreachable           DNS, TCP, TLS or HTTP failed on the way; `.sent` says if the request may have left
├── TryLater              somebody has to wait; `.retry_after` says how many seconds
│   ├── TooManyTries      a password or a token was wrong too often
│   ├── TooBusy           too many people sign in at this moment
│   └── SealKeyUnknown    it was sealed with a key that this process does not have, and another one has
└── SealBroken            a sealed secret cannot be opened with the keys at hand
    └── SecretOfAnotherServer  it was entered for another server than the one it would go to
"""

from __future__ import annotations

import inspect


class DuvoError(Exception):
    """Something went wrong."""

    code = "error"

    def __init__(self, sentence: str | None = None, *, code: str | None = None) -> None:
        """Take a sentence for a person (default: the docstring) and a stable code (default: the class's)."""
        self.sentence = sentence or inspect.cleandoc(type(self).__doc__ or "").splitlines()[0]
        if code is not None:
            self.code = code
        super().__init__(self.sentence)


class Refused(DuvoError):
    """This address cannot be used."""

    code = "address_refused"
    sent = False


class AnswerRefused(Refused):
    """The server's answer was larger than allowed, so reading it was stopped."""

    code = "answer_too_large"
    sent = True


class Unreachable(DuvoError):
    """The server cannot be reached."""

    code = "connect_failed"

    def __init__(self, sentence: str | None = None, *, code: str | None = None, sent: bool = False) -> None:
        """Take also whether a byte of the request may have left: only if not, a repeat is harmless."""
        super().__init__(sentence, code=code)
        self.sent = sent


class TryLater(DuvoError):
    """This cannot be done now."""

    code = "try_later"

    def __init__(self, sentence: str | None = None, *, retry_after: float) -> None:
        """Take also how many seconds to wait."""
        super().__init__(sentence)
        self.retry_after = max(1.0, retry_after)


class TooManyTries(TryLater):
    """Too many tries failed."""

    code = "too_many_tries"


class TooBusy(TryLater):
    """Too many people sign in at this moment."""

    code = "too_busy"


class SealKeyUnknown(TryLater):
    """What is stored was sealed with a key that this process does not know yet. Try again in a moment."""

    code = "seal_key_unknown"

    def __init__(self) -> None:
        """Take nothing: the next try may reach a process that has the key."""
        super().__init__(retry_after=3)


class SealBroken(DuvoError):
    """A stored secret cannot be opened: it was sealed with a key that is gone. Enter it again."""

    code = "seal_broken"


class SecretOfAnotherServer(SealBroken):
    """What is stored was entered for another server, so it was not sent. Enter it again."""

    code = "secret_of_another_server"

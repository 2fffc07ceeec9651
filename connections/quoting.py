"""The words of strangers as people may read them: short, in one piece, and without secrets. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from connections.secret_forms import JSON_WEB_TOKEN, KEY

MOST_IN_A_SENTENCE: Final = 160
LEFT_OUT: Final = "[left out]"  # in the place of a secret
_LOOKED_AT: Final = 8  # times as many characters as are shown: what is left out makes room
SHORTEST: Final = 6  # characters of a secret; what is shorter may be in a text by chance
# Secrets of others, by their form: a bearer token, a JSON Web Token, well-known keys, and who signs in by an address.
_BY_FORM: Final = re.compile(
    rf"(?i:\bbearer\s+)[\w.~+/=-]{{8,}}|\b{JSON_WEB_TOKEN}(?:\.[\w-]+){{0,4}}|\b{KEY}"
    r"|\b(?:sk|pk|ghp|gho|xox[a-z]|glpat)(?=[\w-]{0,80}\d)[\w-]{12,}"
    r"|(?<=://)(?:[^\s/@:]{0,200}:(?!\d{1,5}/)\S{1,200}|[^\s/]{1,200})(?=@)"  # not a port, before an @ of the path
)
_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def readable(words: str, most: int) -> str:
    """Return words with at most so many characters, without what is not seen and what has the form of a secret."""
    words = _UNSEEN.sub(" ", _BY_FORM.sub(LEFT_OUT, words[: most * _LOOKED_AT])).strip()
    return words if len(words) <= most else words[: most - 1] + "…"


def without(words: str, secrets: Iterable[object]) -> str:
    """Return words with something else in the place of each of these secrets."""
    found = {secret for secret in secrets if isinstance(secret, str) and len(secret) >= SHORTEST}
    return re.sub("|".join(map(re.escape, sorted(found, key=len, reverse=True))), LEFT_OUT, words) if found else words


def sentence(whose: str, said: str) -> str:
    """Return a sentence that quotes readable words in one line; "" for none."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in said).split())
    rest = "…" if len(line) > MOST_IN_A_SENTENCE else ""
    end = "" if line.endswith((".", "!", "?")) and not rest else "."
    return f"In {whose} own words: “{line[:MOST_IN_A_SENTENCE]}{rest}”{end}" if line else ""

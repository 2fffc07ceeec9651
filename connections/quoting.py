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
    rf"(?i:\bbearer(?:\s+|\s?:\s?|%20))[\w.~+/=-]{{8,}}|(?i:\bbasic\s)(?=[A-Za-z+/]{{0,60}}\d)[A-Za-z0-9+/]{{8,}}={{0,2}}"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,8000}(?:-----END [A-Z ]{0,30}-----)?"
    rf"|\b{JSON_WEB_TOKEN}(?:\.[\w-]+){{0,4}}|\b{KEY}"
    r"|\b(?:sk|pk|ghp|gho|xox[a-z]|glpat)(?=[\w-]{0,80}\d)[\w-]{12,}"
    r"|(?<=://)(?:[^\s/@:]{0,200}:(?!\d{1,5}/)\S{1,200}|[^\s/]{1,200})(?=@)"  # not a port, before an @ of the path
)
# By the name before it, as in the address of a database; one with a digit, so that “password: required” stays.
_NAMED: Final = re.compile(
    r"((?:passw(?:or)?d|pwd|secret|api[_-]?key|token|account_?key|session_?id)[\"']?\s{0,2}[:=]\s{0,2}[\"']?)"
    r"(?=[^\s\"';,&]{0,80}\d)[^\s\"';,&\[]{6,}",
    re.IGNORECASE,
)
_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def readable(words: str, most: int) -> str:
    """Return words with at most so many characters, without what is not seen and what has the form of a secret."""
    words = _NAMED.sub(rf"\1{LEFT_OUT}", _BY_FORM.sub(LEFT_OUT, words[: most * _LOOKED_AT]))
    words = _UNSEEN.sub(" ", words).strip()
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

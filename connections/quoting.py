"""The words of strangers as people may read them: short, in one piece, and without secrets. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from connections.secret_forms import JSON_WEB_TOKEN, KEY

MOST_IN_A_SENTENCE: Final = 160
LEFT_OUT: Final = "[left out]"  # in the place of a secret
SHORTEST: Final = 6  # characters of a secret; what is shorter may be in a text by chance
# Secrets of others, by their form: a bearer token, a JSON Web Token, well-known keys, and who signs in by an address.
_BY_FORM: Final = re.compile(
    rf"(?i:\bbearer\s+)[\w.~+/=-]{{8,}}|\b{JSON_WEB_TOKEN}(?:\.[\w-]+){{0,4}}|\b(?:{KEY}|(?:sk|pk|ghp|gho|xox[a-z]|glpat)[\w-]{{12,}})"
    r"|(?<=://)(?:[^\s/@:]*:\S+|[^\s/]+)(?=@)"
)
# Where the JSON of an error says in words what is wrong (JSON-RPC, RFC 6749, RFC 9457, Okta, Supabase and others).
_WORDS: Final = (
    "error_description", "errorSummary", "error_message", "message", "msg", "detail", "details", "description", "error",
    "errors", "title", "reason", "faultstring", "fault", "data",
)  # fmt: skip
_WHERE: Final = ("loc", "field", "path", "param", "property")  # which member of what was sent one of several is about
_MOST_WORDS: Final = 3  # of a list
_DEEPEST: Final = 4
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]*")
_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def readable(words: str, most: int) -> str:
    """Return words with at most so many characters, without what is not seen and what has the form of a secret."""
    words = _UNSEEN.sub(" ", _BY_FORM.sub(LEFT_OUT, words)).strip()
    return words if len(words) <= most else words[: most - 1] + "…"


def words_in(value: Any, *, deepest: int = _DEEPEST) -> str:
    """Return the words in the JSON of an error, "" for none; an `error` that is one word is a code, and is none."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and deepest:
        found = (words_in(one, deepest=deepest - 1) for one in value[:_MOST_WORDS])
        return "; ".join(dict.fromkeys(filter(None, found)))
    if not isinstance(value, dict) or not deepest:
        return ""
    for name in _WORDS:
        held = value.get(name)
        is_code = name == "error" and isinstance(held, str) and _CODE.fullmatch(held.strip())
        words = "" if is_code else words_in(held, deepest=deepest - 1)
        if words:
            where = _where(value)
            return f"{where}: {words}" if where and where not in words else words
    return ""


def _where(value: dict[str, Any]) -> str:
    """Return the name of what a fault is about, "" for none."""
    for name in _WHERE:
        found = value.get(name)
        last = found[-1] if isinstance(found, list) and found else found
        if isinstance(last, str) and last:
            return last
    return ""


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

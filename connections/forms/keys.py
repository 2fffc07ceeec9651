"""What people paste where a key, a client's name or headers belong, and what is meant by it. Pure.

unquoted("'abc'")                  a key without the quotes around it
assigned("SHOP_PAT=abc")           the value of a variable
placeholder_in("<your-api-key>")   what in a text stands for something else
header_lines('-H "X-Key: 1"')      headers of a command or of JSON, one in a line
"""

from __future__ import annotations

import json
import re
import shlex
import textwrap
import unicodedata
from typing import Any

LONGEST = 20_000  # characters of a paste; a configuration file of a few servers has 2,000
_LONGEST_PLACEHOLDER = 80
_MOST_QUOTES = 5  # pairs of them around a text; each is looked for in all of it
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“", "”": "”", "’": "’"}
_MARKED = (  # as documentation marks what stands for something else
    re.compile(r"<(?!/)[^<>\n:]{1,60}>|(?<=/)(?:\.{3}|…)(?=/|$)"),
    re.compile(r"[$#@%!]?\{\{?[^{}\n]{1,60}\}\}?|\$?%7B[^%\n]{1,60}%7D", re.IGNORECASE),
    re.compile(r"\$[A-Z][A-Z0-9_]{2,40}\b|\$\([^()\n]{1,60}\)|\$env:[A-Za-z_]\w{0,60}|%\([^()\n]{1,60}\)s"),
    re.compile(r"%[A-Z_]{4,40}%|(?<![A-Za-z0-9_])__[A-Z][A-Z0-9_]{1,60}__(?![A-Za-z0-9_])|@@[\w-]{1,60}@@"),
    re.compile(r"\[[A-Za-z][A-Za-z0-9 _-]{0,40}\]"),
    re.compile(r"\bYOUR[_-][A-Z0-9_-]{1,60}"),
    re.compile(r"\byour[_-](api|instance|workspace|domain|server|company|account|tenant|subdomain|org|organization|team|"
               r"site|project|region|key|token|id)\b[a-z0-9_-]{0,40}", re.IGNORECASE),
)  # fmt: skip
_KEYS_MARKED = (  # what stands for a key, when there is nothing else
    re.compile(r"<{1,3}[^<>\n]{0,60}>{1,3}|\[\[[^\[\]\n]{1,60}\]\]|<[A-Z_]{2,40}|[A-Z_]{2,40}>"),
    re.compile(r"[#~|]{1,2}[A-Z][A-Z0-9_]{1,60}[#~|]{1,2}|[A-Za-z0-9/+]{8,40}EXAMPLE(?:KEY)?"),
    re.compile(r"(?:[A-Za-z0-9]{1,12}[-_]){1,4}your(?:[-_][A-Za-z]{1,12}){1,5}", re.IGNORECASE),
    re.compile(r"(?:DEIN|IHR|MEIN|TU|SU|VOTRE|TON|SUA|SEU|IL_TUO|TUA|TWOJ)(?:_[A-Z]{1,20}){1,5}"),  # “your”
    re.compile(r"(YOUR|INSERT|ENTER|REPLACE|PASTE)[_-][A-Za-z0-9_-]{0,60}", re.IGNORECASE),
    re.compile(
        r"@?(process\.env|os\.(environ|getenv)|system\.getenv|import\.meta\.env|deno\.env(\.get)?|env|secrets|vars|"
        r"inputs?)[.\[(:][A-Za-z_\"'][^\n]{0,60}|![A-Za-z]+ [\w./-]{1,60}",
        re.IGNORECASE,
    ),
    re.compile(
        r"[A-Za-z0-9_.-]{0,80}?(?:\*{3,}|\[?(?:\.{3}|…)\]?|•{3,})[A-Za-z0-9_-]{0,80}|null|undefined|none",
        re.IGNORECASE,
    ),
    re.compile(r"(?:[A-Za-z0-9]{1,12}[-_]){0,4}(?:[x*•]{3,}|\.{3,}|…+|0{6,})(?:[-_ ][x*•0]{3,}){0,8}", re.IGNORECASE),
    re.compile(r"@[A-Z][A-Z0-9_]{1,60}@|[A-Z][A-Z0-9_]{0,50}_(?:KEY|TOKEN|SECRET|PASSWORD|PAT|CREDENTIALS?)"),
)
_WORD = (
    r"(?:my|your|the|our|an?|some|this|insert|enter|paste|replace|put|add|with|here|goes|api|access|auth|bearer|private|"
    r"personal|client|user|account|server|mcp|service|key|token|secret|password|credentials?|id|pat|value|redacted|"
    r"hidden|removed|masked|placeholder|todo|tbd|fixme|change|me|n/a|example|sample|dummy)"
)
_ONLY_WORDS = re.compile(rf"[(_*-]*{_WORD}(?:[-_ .]?{_WORD}){{0,7}}[)_*-]*", re.IGNORECASE)
_TELLING = re.compile(
    r"key|token|secret|password|credential|client[-_ ]?id|redacted|hidden|removed|masked|placeholder|todo|tbd|fixme|"
    r"change[-_ ]?me|n/a",
    re.IGNORECASE,
)
_SCHEME = re.compile(
    r"(?:bearer|basic|token|api-?key|key|jwt|oauth|bot|pat|secret|digest|hmac|[a-z]{2,12}-key)", re.IGNORECASE
)
# A name before the key, as in a file of settings or a header.
_NAMED_KEY = re.compile(
    r"(?:export\s+|set\s+)?((?:[A-Za-z][A-Za-z0-9_.-]{0,60}?)?"
    r"(?:api key|key|token|secret|password|authorization|\bpat|client[-_]?id|\bbearer(?=\s*[:=])))\s*[=:]\s*(?=[^\s=])"
    r"|(bearer)(?:%20|[,+])(?=[^\s=])",
    re.IGNORECASE,
)
_VARIABLE = re.compile(
    r"(?:(?:export|set|env)\s+(?-i:[A-Z])\w{1,60}|\$env:[A-Za-z_]\w{0,60}|(?-i:[A-Z][A-Z0-9]{0,40}(?:_[A-Z0-9]{1,40}){1,8}))"
    r"\s*=\s*([^\s=].*)",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?:^|\s)(?:-H\s*[\"'$^\w]|--header[=\s])")
_QUOTED_OPTION = re.compile(r"(?:^|\s)(?:-H|--header)(?:=|\s*)(\"[^\"\n]*\"|'[^'\n]*')")
_LABEL = re.compile(r"^[\"']?[\w-]*headers[\"']?\s*[:=]\s*(?=@?[{\[])", re.IGNORECASE)
_HEADING = re.compile(
    r"^\s*(?:(?:http|request|extra|custom)[_-])?headers?\s*:[ \t]*(?=\r?\n|[\w-]+\s*:)", re.IGNORECASE
)
_STRAIGHT = str.maketrans(dict.fromkeys("“”„", '"') | dict.fromkeys("‘’‚", "'"))
_PAIR = re.compile(r"[\"'`]\s*[:=]\s*[\"'`]")  # the quotes around do not belong together
_BULLET = re.compile(r"^(?:[-*•–>]\s+|\d+[.)]\s+)")


def without_edges(text: str, kinds: tuple[str, ...] = ("C", "Z")) -> str:
    """Return the text without what nobody sees at its ends: blanks of all kinds, byte order marks, zero widths."""
    start, end = 0, len(text)
    while start < end and unicodedata.category(text[start]).startswith(kinds):
        start += 1
    while end > start and unicodedata.category(text[end - 1]).startswith(kinds):
        end -= 1
    return text[start:end]


def unquoted(text: str) -> str:
    """Return the text without blanks and pairs of quotes around it, and without the comma behind a line of JSON."""
    text = without_edges(text)
    if text[1:] and text[-1] in ",;" and _QUOTES.get(text[0]) == text[:-1].rstrip()[-1:]:
        text = text[:-1].rstrip()
    for _ in range(_MOST_QUOTES):
        if not text[1:] or _QUOTES.get(text[0]) != text[-1] or _PAIR.search(text[1:-1]):
            break
        text = without_edges(text[1:-1])
    return text


def assigned(text: str) -> str:
    """Return the value that a line of a shell or of a file of settings gives to a variable; other text as it is."""
    found = _VARIABLE.fullmatch(text)
    return unquoted(found[1]) if found else text


def name_before(key: str) -> str:
    """Return the name that was pasted before a key (`token=…`, `x-api-key: …`, `{"X-Key": …}`), "" for none."""
    if key.startswith(("{", '"', "[", "-H", "--header", "curl ")) and (lines := header_lines(key)) != key:
        key = lines
        if named := re.match(r"([A-Za-z][A-Za-z0-9_-]{0,60}):", key):
            return named[1]
    found = _NAMED_KEY.match(key.strip())
    return found[1] or found[2] if found else ""


def without_scheme(value: str, *, any_scheme: bool = False) -> str:
    """Return what follows the word by which an Authorization header begins, such as “Bearer”; "" for nothing."""
    scheme, _, rest = value.partition(" ")
    if rest:
        return rest.strip() if any_scheme or _SCHEME.fullmatch(scheme) else value
    alone = _SCHEME.fullmatch(scheme) if any_scheme else scheme.lower() == "bearer"
    return "" if alone else value


def placeholder_in(text: str, *, whole: bool = False, words: bool = False) -> str:
    """Return the placeholder in a text, "" for none.

    With `whole` only if it is all there is, as of a key; with `words` also what only says that it is a key.
    """
    text = text.strip()
    if not whole:
        return next((match[0] for pattern in _MARKED if (match := pattern.search(text))), "")
    if any(pattern.fullmatch(text) for pattern in (*_MARKED, *_KEYS_MARKED)):
        return text
    told = words and len(text) <= _LONGEST_PLACEHOLDER and _ONLY_WORDS.fullmatch(text) and _TELLING.search(text)
    return text if told else ""


def header_lines(text: str) -> str:
    """Return headers that were copied out of a command or of JSON as one “Name: value” per line; others as they are."""
    stripped = without_edges(text[:LONGEST])
    if _OPTION.search(stripped) and (options := _options(stripped)):
        return "\n".join(options)
    bare = _LABEL.sub("", stripped)
    straight = bare.translate(_STRAIGHT)
    if straight.startswith(("{", '"', "[", "@{", "'{")):
        pairs = _pairs(_read(unquoted(straight) if straight.startswith("'{") else straight))
        if pairs is not None:
            return "\n".join(f"{name}: {value}" for name, value in pairs)
        if straight[0] == bare[0]:
            return text
    lines = textwrap.dedent(_HEADING.sub("", text)).split("\n")
    return "\n".join(line if number and line[:1] in {" ", "\t"} else _line(line) for number, line in enumerate(lines))


def _line(line: str) -> str:
    """Return one header without what stands around it in prose: a bullet, quotes, what nobody sees."""
    plain = unquoted(_BULLET.sub("", without_edges(line, ("Cf", "Zs"))))
    name, colon, value = (plain if ":" in plain else plain.replace("\uff1a", ":", 1)).partition(":")
    return f"{unquoted(name.replace('**', ''))}{colon}{unquoted(value)}" if colon else plain


def _options(text: str) -> list[str]:
    """Return the headers that the options of a command set."""
    joined = re.sub(r"[\\^`]\r?\n", " ", text).replace('^"', '"').replace(" $'", " '")
    try:
        words = shlex.split(joined)
    except ValueError:
        return [option[1:-1] for option in _QUOTED_OPTION.findall(joined)]
    found = []
    for number, word in enumerate(words):
        rest = words[number + 1 : number + 3]
        if word in {"-H", "--header"} and rest:  # without quotes the value may be the word after
            found.append(" ".join(rest) if rest[0].endswith(":") else rest[0])
        elif word.startswith("--header="):
            found.append(word.partition("=")[2])
        elif word.startswith("-H") and len(word) > len("-H"):
            found.append(" ".join([word[2:], *rest[:1]]) if word.endswith(":") else word[2:])
    return [] if any("\n" in option or "\r" in option for option in found) else found


def _read(text: str) -> Any:
    """Return what is written as JSON or nearly so: a part of it, a comma too many, the ways of other languages."""
    text = re.sub(r"([\"'])\s*=>?\s*([\"'])", r"\1: \2", text.removeprefix("@")).rstrip().rstrip(",")
    text = text if text.startswith(("{", "[")) else "{" + text + "}"
    text = re.sub(r",(\s*[}\]])", r"\1", text)
    for candidate in (text, text.replace("'", '"') if '"' not in text else ""):
        try:
            return json.loads(candidate, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            continue
    if re.fullmatch(r"\{[^{}\"'\[\]]*\}", text):  # {X-Key: abc}
        lines = re.split(r",\s*(?=[\w-]+\s*:)", text[1:-1])
        return lines if all(":" in line for line in lines) else None
    return None


def _object(members: list[tuple[str, Any]]) -> dict[str, Any] | list[str]:
    """Return a JSON object; one that names a member twice as lines, which say so."""
    read = dict(members)
    return read if len(read) == len(members) else [f"{name}: {value}" for name, value in members]


def _pairs(read: Any) -> list[tuple[str, str]] | None:
    """Return names and values of headers, None for what holds other things."""
    name = "headers"  # of what is looked at: a list of texts with another one has values, and no headers
    while isinstance(read, dict) and (inner := read.get("headers", next(iter(read.values()), None))) is not None:
        if not isinstance(inner, dict | list) or (len(read) > 1 and "headers" not in read):
            break
        name, read = "headers" if "headers" in read else next(iter(read)), inner
    if isinstance(read, list) and not name.lower().endswith("headers"):
        return None
    found: list[Any] = list(read.items()) if isinstance(read, dict) else []
    for one in read if isinstance(read, list) else []:
        if isinstance(one, dict) and "value" in one:
            if one.get("disabled") is True or one.get("enabled") is False:
                continue
            found.append((one.get("name", one.get("key")), one["value"]))
        elif isinstance(one, str):
            named, _, value = one.partition(":")
            found.append((named.strip(), value.strip()))
        else:
            return None
    good = all(isinstance(each, str) and "\n" not in each and "\r" not in each for pair in found for each in pair)
    return found if found and good else None

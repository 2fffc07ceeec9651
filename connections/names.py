"""Names that people give: what may stand in one, and what it looks like to a reader. Pure.

check("Orders" + zero width space)  raises Invisible: which character, and what to do
folded("ACMÉ GmbH") == "acme gmbh"  what a reader takes it for, whatever alphabet its letters are from
slug_of("ACME GmbH") == "acme-gmbh"  how organizations are told apart
prefix_of("Заказы") == "zakazy"     what the names of a connection's tools begin with
of_host("mcp.linear.app") == "Linear"  what a connection to a server there may be called
"""

from __future__ import annotations

import re
import unicodedata

from anyascii import anyascii

SLUG_LENGTH = 40
PREFIX_LENGTH = 24
NAME_LENGTH = 80
_OF_SERVERS = {"www", "api", "mcp", "server", "remote"}  # labels that say what a host is, and not whose
# Domains below which anybody's servers are: the name is that of the label before.
_HOSTING = {
    "amazonaws.com", "azure-api.net", "azurecontainerapps.io", "azurewebsites.net", "cloudfunctions.net", "deno.dev",
    "firebaseapp.com", "fly.dev", "github.io", "herokuapp.com", "hf.space", "koyeb.app", "modal.run", "netlify.app",
    "ngrok-free.app", "ngrok-free.dev", "ngrok.app", "ngrok.dev", "ngrok.io", "on.aws", "onrender.com",
    "ondigitalocean.app", "pages.dev", "railway.app", "replit.app", "run.app", "trycloudflare.com", "vercel.app",
    "web.app", "workers.dev",
}  # fmt: skip
_SECOND_LEVEL = {"co", "com", "org", "net", "gov", "ac", "edu"}  # as in example.co.uk
_NAMELESS = "organization"  # of a name without a letter or digit, in whatever script
# What is not shown although it counts as a letter or a mark: Default_Ignorable_Code_Point (Unicode, UAX #44), and the
# blank of Braille. Format characters (Cf) among them, such as zero width and bidi controls, are found by category.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e0fff]"
)
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
# Letters that look like Latin ones: Cyrillic, Greek, Armenian, small capitals, strokes (after UTS #39's confusables).
# Capitals come first, as their small letters may look like others: Ν like N, but ν like v.
_CAPITALS = str.maketrans("АВЕЅІЈКМНОРСТУХҮԚԜΑΒΕΖΗΙΚΜΝΟΡΤΥΧՍՕ", "abesijkmhopctyxyqwabezhikmnoptyxuo")
_BEFORE = str.maketrans("Ϲϲ", "cc")  # lunate sigma, which would become a plain one
_SMALL = str.maketrans(
    "авеѕіјкмнорстухүԛԝһԁӏαεγηικνορτυχօսոհցզıɑɡɩᴀʙᴄᴅᴇɢʜᴊᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢøłđħŧ",
    "abesijkmhopctyxyqwhdlaeynikvoptuxounhgqiagiabcdeghjklmnoprtuvwyzoldht",
)


class Invisible(ValueError):
    """A name holds a character that nobody sees."""

    def __init__(self, character: str) -> None:
        """Take the character."""
        super().__init__(
            f"This holds an invisible character (U+{ord(character):04X}). Type it anew instead of pasting it."
        )


def in_one_line(name: str) -> str:
    """Return the name with each run of spaces and line breaks as one space."""
    return " ".join(name.split())


def check(name: str) -> None:
    """Raise Invisible for a name that holds what nobody sees: it could not be told from the name without."""
    for character in name:
        if unicodedata.category(character) in _UNSEEN or _IGNORABLE.match(character):
            raise Invisible(character)


def folded(name: str) -> str:
    """Return what a name looks like: the same for names that a reader takes for one another, as far as letters go."""
    seen = "".join(
        character
        for character in name.translate(_BEFORE)
        if unicodedata.category(character) not in _UNSEEN - {"Cc"} and not _IGNORABLE.match(character)
    )
    # Letters of other widths and styles become plain ones, and each counts without its accents.
    plain = unicodedata.normalize("NFKD", seen)
    bare = "".join(character for character in plain if not unicodedata.combining(character))
    return in_one_line(bare.translate(_CAPITALS).casefold().translate(_SMALL))


def slug_of(name: str, number: int = 1) -> str:
    """Return the short name of an organization of this name; `number` tells those that look alike apart."""
    seen = folded(name)
    base = _hyphened(seen if seen.isascii() else anyascii(name).lower()) or _NAMELESS
    ending = f"-{number}" if number > 1 else ""
    return base[: SLUG_LENGTH - len(ending)].rstrip("-") + ending


def prefix_of(name: str) -> str:
    """Return what the names of a connection's tools begin with: its name in Latin letters, as far as it has any."""
    latin = re.sub(r"['’`]", "", anyascii(name).lower())
    return _hyphened(latin)[:PREFIX_LENGTH].strip("-") or "connection"


def of_host(host: str) -> str:
    """Return a name for a connection to a server on this host: whose server it is, as far as the host's name says."""
    labels = host.split(".")
    if len(labels) < 2 or labels[-1].isdigit() or ":" in host:  # noqa: PLR2004 - no domain below another
        return host[:NAME_LENGTH]
    if ".".join(labels[-2:]).lower() in _HOSTING and labels[2:]:
        own = [label for label in labels[:-2] if label not in _OF_SERVERS] or labels[:1]
        return own[0].replace("-", " ").capitalize()[:NAME_LENGTH]
    own = [label for label in labels[:-1] if label not in _OF_SERVERS] or labels[:1]
    if len(own) > 1 and own[-1] in _SECOND_LEVEL:
        own.pop()
    return own[-1].replace("-", " ").capitalize()[:NAME_LENGTH]


def is_prefix(text: str) -> bool:
    """Whether a person may choose this as a prefix."""
    return len(text) <= PREFIX_LENGTH and bool(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text))


def _hyphened(text: str) -> str:
    """Return the letters and digits of a text, with hyphens between its words."""
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")

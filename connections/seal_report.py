"""What is sealed with which key, and who has that key: what an operator has to know to rotate SEAL_KEYS."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from allauth.mfa.models import Authenticator
from django.db.models import Count, F, Model, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Right, Substr

from connections import key_holders, rotation, sealing
from connections.key_holders import Holder
from connections.people import second_factor

_ID = 8  # characters of a key's id, behind `v1.` in a seal and at the end of a sealed file's name


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its place in the SEAL_KEYS of this process (0 seals), what it has sealed, and who has it or lacks it."""

    id: str
    place: int | None
    sealed: dict[str, int] = field(default_factory=dict)  # values by column
    known_to: Sequence[Holder] = ()
    unknown_to: Sequence[Holder] = ()

    @property
    def still_seals(self) -> list[Holder]:
        """Return the processes that seal with it."""
        return [holder for holder in self.known_to if holder.keys[0] == self.id]

    @property
    def may_go(self) -> bool:
        """Whether it may be dropped from SEAL_KEYS: an older key that seals nothing, stored or new."""
        return bool(self.place) and not self.sealed and not self.still_seals


def keys(holders: Sequence[Holder]) -> list[Key]:
    """Return every key that is in SEAL_KEYS here or has sealed something; `holders` are the processes at work."""
    here, sealed = sealing.key_ids(), _sealed()
    return [
        Key(
            key,
            here.index(key) if key in here else None,
            dict(sealed.get(key, {})),
            [holder for holder in holders if key in holder.keys],
            [holder for holder in holders if key not in holder.keys],
        )
        for key in dict.fromkeys([*here, *sorted(sealed)])
    ]


def advice(key: Key) -> str:
    """Return what may be done with a key, and what not yet."""
    if key.place is None:
        return "No key of SEAL_KEYS here opens this: add the key, or what it sealed has to be entered again."
    lacking = ", ".join(sorted({str(holder) for holder in key.unknown_to}))
    if lacking and key.place == 0:
        return f"Seals what is new, and is unknown to {lacking}: there it cannot be opened. Deploy the key there now."
    if lacking:
        return f"May not be put first yet: it is unknown to {lacking}."
    if key.place == 0:
        return "Seals what is new."
    if key.still_seals:
        first = ", ".join(sorted({str(holder) for holder in key.still_seals}))
        gone = f"who has been stopped is counted for {key_holders.AT_WORK:.0f} seconds more"
        return f"May not be dropped yet: it still seals what is new in {first} ({gone})."
    if key.sealed:
        return "May be put first if it is newer. May not be dropped before `manage.py rotate_seals` has run."
    return "May be put first if it is newer, or dropped if it is older: nothing is sealed with it."


def _sealed() -> dict[str, Counter[str]]:
    """Return how many values each key has sealed, by column."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    columns: list[tuple[type[Model], str, Substr | Right]]
    columns = [(model, name, Substr(F(name), 4, _ID)) for model, name in rotation.sealed_columns()]
    columns += [(model, name, Right(F(name), _ID)) for model, name in rotation.sealed_file_columns()]
    for model, name, key in columns:
        for of_key, count in _counts(model, name, key):
            found[of_key][f"{model._meta.label}.{name}"] += count  # noqa: SLF001 - Django's documented name
    for name in second_factor.SEALED:
        rows = Authenticator.objects.filter(**{f"data__{name}__isnull": False})
        for of_key, count in _by_key(rows, Substr(KeyTextTransform(name, "data"), 4, _ID)):
            found[of_key]["mfa.Authenticator.data"] += count
    return found


def _counts(model: type[Model], name: str, key: Substr | Right) -> list[tuple[str, int]]:
    return _by_key(model._default_manager.exclude(**{name: ""}), key)  # noqa: SLF001 - Django's documented name


def _by_key(rows: QuerySet[Any], key: Substr | Right) -> list[tuple[str, int]]:
    return list(rows.order_by().annotate(of_key=key).values_list("of_key").annotate(Count("pk")))


def at_work(now: float) -> list[Holder] | None:
    """Return the processes at work, None while Redis does not say."""
    holders = key_holders.seen()
    return None if holders is None else key_holders.at_work(holders, now)

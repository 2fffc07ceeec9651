"""Sealed bytes in files of the storage `results`, for what is too large for a database.

The name of a file ends with the id of the key that sealed it, so that rotation finds what an older key sealed. Nothing
here deletes: a file that no row names any more is removed by the purge.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages

from connections import sealing
from connections.errors import SealBroken

STORAGE = "results"


def set_up() -> bool:
    """Tell whether there is a storage for sealed files."""
    return STORAGE in settings.STORAGES


def storage() -> Storage:
    """Return the storage; raises InvalidStorageError where none is set up."""
    return storages[STORAGE]


def write(place: str, data: bytes, *, context: str) -> str:
    """Seal the bytes into a new file, whose name begins with `place` and cannot be guessed; return its name."""
    sealed = sealing.seal_bytes(data, context=context)
    name = f"{place}-{secrets.token_hex(24)}{current_suffix()}"
    try:
        return storage().save(name, ContentFile(sealed.encode()))
    except Exception:
        with suppress(Exception):  # on a full disk its first half would keep the disk full until the next purge
            storage().delete(name)
        raise


def read(name: str, *, context: str) -> bytes:
    """Return the opened bytes of a file; raises SealBroken, also when the file is gone."""
    if not set_up():
        raise SealBroken("The storage of a sealed file is not set up.")
    try:
        with storage().open(name) as file:
            sealed = file.read().decode()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise SealBroken("A sealed file is gone or is none.") from error
    return sealing.unseal_bytes(sealed, context=context)


def current_suffix() -> str:
    """Return how the name of every file ends that the first of SEAL_KEYS sealed."""
    return f".{sealing.current_prefix().split('.')[1]}"

"""What is too large to stand in a result: stored beside it, and linked from where it stood.

split     takes what is too large out of a result and leaves a link with its type, size and digest (`splitting.py`)
sealed    makes rows of what was taken out, sealed in themselves or in files of the storage `results`
opened    gives it back
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID

from django.conf import settings

from connections import sealed_files, sealing
from tools.models import StoredContent
from tools.models.calls import seal_context
from tools.payloads.splitting import ALL, LARGE, SMALL, Piece, as_one, media_type, split

__all__ = ["ALL", "LARGE", "SMALL", "Piece", "address", "as_one", "media_type", "opened", "sealed", "split"]

logger = logging.getLogger(__name__)


def address(call_id: UUID, number: int | str) -> str:
    """Return where a stored content of a call is to be had."""
    return f"{settings.PUBLIC_URL}/v1/calls/{call_id}/contents/{number}"


def sealed(call_id: UUID, tenant_id: UUID, pieces: Iterable[Piece]) -> list[StoredContent]:
    """Return the rows of the pieces of a call's result, to be written in the transaction of its outcome.

    Where the storage `results` is set up, and takes them, they are in files by now, which may take its time; one whose
    row is never written is removed by the purge.
    """
    context = seal_context(tenant_id, call_id)
    return [_row(call_id, f"{tenant_id}/{call_id}", piece, context) for piece in pieces]


def opened(content: StoredContent) -> bytes:
    """Return the bytes of a stored content; raises SealBroken, also when its file is gone."""
    if content.file:
        return sealed_files.read(content.file, context=content.seal_context)
    return sealing.unseal_bytes(content.sealed, context=content.seal_context)


def _row(call_id: UUID, place: str, piece: Piece, context: str) -> StoredContent:
    # Without its digest, from which a content of few unknown characters could be guessed by who reads the database.
    row = StoredContent(call_id=call_id, number=piece.number, media_type=piece.media_type, size=piece.size)
    if sealed_files.set_up():
        try:
            row.file = sealed_files.write(place, piece.data, context=context)
        except Exception:  # each storage has errors of its own: the tool has run, and its result can still be kept
            logger.exception("A content of call %s could not be written to a file", call_id)
    if not row.file:
        row.sealed = sealing.seal_bytes(piece.data, context=context)
    return row

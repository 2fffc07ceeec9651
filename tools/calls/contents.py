"""Contents that are too large for a result: stored beside it, and linked from their place in it.

split     takes what is too large out of a result and leaves a link with its type, size and digest (`splitting.py`)
sealed    makes rows of what was taken out, sealed in the row or in a file of the storage `results`
opened    returns its bytes
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
    """Return the URL of a stored content of a call."""
    return f"{settings.PUBLIC_URL}/v1/calls/{call_id}/contents/{number}"


def sealed(call_id: UUID, tenant_id: UUID, pieces: Iterable[Piece]) -> list[StoredContent]:
    """Return the rows of the pieces of a call's result, to be written in the transaction of its outcome.

    Where the storage `results` is set up, this writes the files, which may take a while; a file whose row is never
    written is deleted by the purge.
    """
    context = seal_context(tenant_id, call_id)
    return [_row(call_id, f"{tenant_id}/{call_id}", piece, context) for piece in pieces]


def opened(content: StoredContent) -> bytes:
    """Return the bytes of a stored content; raises SealBroken, also when its file is gone."""
    if content.file:
        return sealed_files.read(content.file, context=content.seal_context)
    return sealing.unseal_bytes(content.sealed, context=content.seal_context)


def _row(call_id: UUID, folder: str, piece: Piece, context: str) -> StoredContent:
    # The digest is not stored: who reads the database could guess from it a content of few unknown characters.
    row = StoredContent(call_id=call_id, number=piece.number, media_type=piece.media_type, size=piece.size)
    if sealed_files.set_up():
        try:
            row.file = sealed_files.write(folder, piece.data, context=context)
        except Exception:  # each storage has errors of its own: the tool has run, and its result can still be kept
            logger.exception("A content of call %s could not be written to a file", call_id)
    if not row.file:
        row.sealed = sealing.seal_bytes(piece.data, context=context)
    return row

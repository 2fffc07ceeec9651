"""Contents that are too large for a call's result: stored beside it, linked from it, sealed like it."""

from __future__ import annotations

from django.db import models
from uuid_utils.compat import uuid7

from tools.models.calls import Call


class StoredContent(models.Model):
    """One content of a result, sealed in the row, or in a file of the storage `results` where one is set up."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    call = models.ForeignKey(Call, on_delete=models.CASCADE, related_name="contents")
    number = models.PositiveIntegerField()
    media_type = models.CharField(max_length=200)
    size = models.PositiveBigIntegerField()  # bytes of the content itself
    sealed = models.TextField(blank=True)
    file = models.CharField(max_length=300, blank=True)

    sealed_fields = ("sealed",)
    sealed_file_fields = ("file",)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["call", "number"], name="a_call_has_one_stored_content_of_each_number"),
            models.CheckConstraint(
                condition=~models.Q(sealed="") ^ ~models.Q(file=""), name="a_stored_content_is_in_the_row_or_in_a_file"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.media_type}, {self.size} bytes"

    @property
    def seal_context(self) -> str:
        """The context that the seals are bound to: that of its call."""
        return self.call.seal_context

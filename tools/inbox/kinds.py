"""What can wait for a person."""

from __future__ import annotations

from django.db.models import TextChoices


class Kind(TextChoices):
    """What is to be done with a thing; the label is the word on its row."""

    APPROVAL = "approval", "Approve"
    QUESTION = "question", "Answer"
    LOGIN = "login", "Connect"
    SIGN_IN = "sign_in", "Sign in"
    REVIEW = "review", "Review"
    BROKEN = "broken", "Repair"

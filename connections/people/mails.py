"""The mails about an account: sent while the person waits, who is told at once if the mail server did not take one."""

from __future__ import annotations

from django.core import mail

from connections.egress.loop import release_database, while_waiting


def send(subject: str, lines: list[str], email: str) -> None:
    """Send a mail of these lines; raises SMTPException, OSError, or ValueError for what is no address.

    A page gives its slot and its database connection to others meanwhile.
    """
    headers = {"Auto-Submitted": "auto-generated"}
    message = mail.EmailMessage(subject, "\n".join([*lines, ""]), to=[email], headers=headers)
    with while_waiting.get()():
        release_database()
        message.send()

"""Messages and the boxes that they lie in."""

from __future__ import annotations

import mailbox
from email.message import EmailMessage
from pathlib import Path


def letter(subject: str, body: str, *, html: str | None = None, attachment: bytes | None = None) -> EmailMessage:
    """A message from Ana."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ana <a@x.test>", "b@y.test", subject
    message.set_content(body)
    if html is not None:
        message.add_alternative(html, subtype="html")
    if attachment is not None:
        message.add_attachment(attachment, maintype="application", subtype="pdf", filename="plan.pdf")
    return message


def delivered(subject: str, body: str) -> EmailMessage:
    """A message as a server delivers it."""
    message = letter(subject, body)
    message["Date"] = "Mon, 05 May 2025 09:00:00 +0000"
    message["Message-ID"] = "<1@x.test>"
    message["Received"] = "from x.test by y.test; Mon, 05 May 2025 09:00:01 +0000"
    return message


def part(body: str, subtype: str = "plain") -> EmailMessage:
    """Text without headers of its own."""
    message = EmailMessage()
    message.set_content(body, subtype=subtype)
    return message


def picture(name: str) -> EmailMessage:
    """A picture that is sent along."""
    message = EmailMessage()
    message.set_content(b"\x89PNG", maintype="image", subtype="png", filename=name)
    return message


def mixed(*parts: EmailMessage, subtype: str = "mixed") -> bytes:
    """A message of these parts, in this order."""
    message = EmailMessage()
    message["Subject"] = "parts"
    getattr(message, f"make_{subtype}")()
    for one in parts:
        message.attach(one)
    return bytes(message)


def attached(message: EmailMessage) -> EmailMessage:
    """A message as a part of another."""
    wrapped = EmailMessage()
    wrapped.set_content(message)
    return wrapped


def box(path: Path, *messages: EmailMessage) -> bytes:
    """A mailbox, as the standard library writes it."""
    opened = mailbox.mbox(path, create=True)
    for message in messages:
        opened.add(mailbox.mboxMessage(message))
    opened.close()
    return path.read_bytes()


def maildir(path: Path, *messages: EmailMessage) -> list[Path]:
    """A Maildir; returns its messages, whose names have no suffix that tells what they are."""
    opened = mailbox.Maildir(path, create=True)
    for message in messages:
        opened.add(message)
    return sorted((path / "new").iterdir())

"""E-mail: headers decoded, the body that people read, mailboxes one message at a time."""

from __future__ import annotations

import io
from email.message import EmailMessage

import pytest

from ingest_pipeline.models import Gap, Heading, Page
from ingest_pipeline.parsing.formats import mail
from ingest_pipeline.parsing.formats.mail import eml_pages, mbox_pages
from ingest_pipeline.parsing.request import Found, ParseFacts, Parser, ParseRequest


def found_in(parser: Parser, content: bytes, first_page: int = 1) -> tuple[list[Found], ParseFacts]:
    facts = ParseFacts()
    return list(parser(io.BytesIO(content), ParseRequest("name", "x/y", first_page=first_page), facts)), facts


def letter(subject: str, body: str, *, html: str | None = None, attachment: bytes | None = None) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ana <a@x.test>", "b@y.test", subject
    message.set_content(body)
    if html is not None:
        message.add_alternative(html, subtype="html")
    if attachment is not None:
        message.add_attachment(attachment, maintype="application", subtype="pdf", filename="plan.pdf")
    return message


def test_a_message_is_its_headers_and_its_text() -> None:
    """Encoded words decoded, the plain alternative taken, attachments named."""
    found, facts = found_in(eml_pages, bytes(letter("Grüße", "Hallo\n", html="<p>no</p>", attachment=b"%PDF")))
    assert found[0] == Heading(1, "Grüße", 1)
    assert isinstance(found[1], Page)
    assert found[1].text.startswith("From: Ana <a@x.test>\nTo: b@y.test\nSubject: Grüße\n\nHallo")
    assert "no" not in found[1].text.split("\n\n")[1]
    assert "plan.pdf" in facts.warnings[0]
    assert facts.title == "Grüße"


def mixed(*parts: EmailMessage, subtype: str = "mixed") -> bytes:
    """A message of these parts, in this order."""
    message = EmailMessage()
    message["Subject"] = "parts"
    getattr(message, f"make_{subtype}")()
    for one in parts:
        message.attach(one)
    return bytes(message)


def part(body: str, subtype: str = "plain") -> EmailMessage:
    """Text without headers of its own."""
    message = EmailMessage()
    message.set_content(body, subtype=subtype)
    return message


def body_of(raw: bytes) -> tuple[str, list[str]]:
    """What is read behind the headers, and the warnings."""
    found, facts = found_in(eml_pages, raw)
    pages = [one for one in found if isinstance(one, Page)]
    return pages[0].text.partition("\n\n")[2], facts.warnings


def test_every_text_of_a_message_is_read_in_its_order() -> None:
    """A letter goes on behind its picture; both halves count."""
    picture = EmailMessage()
    picture.set_content(b"\x89PNG", maintype="image", subtype="png", filename="boat.png")
    assert body_of(mixed(part("one"), picture, part("<p>two</p>", "html"), part("three"))) == (
        "one\n\ntwo\n\nthree",
        ["message 1: attachments not read: boat.png"],
    )


def test_an_empty_plain_text_does_not_hide_the_html_beside_it() -> None:
    """As some senders write them: the letter is in the HTML, the plain alternative is a blank line."""
    html = part("<p>the letter</p>", "html")
    assert body_of(mixed(part("\n"), html, subtype="alternative")) == ("the letter", [])
    assert body_of(mixed(html, part("\n"))) == ("the letter", [])


def test_what_is_wrong_with_an_alternative_that_is_not_read_is_no_warning() -> None:
    """Nobody reads its bytes."""
    message = EmailMessage()
    message["Subject"] = "parts"
    message.set_content("plain")
    message.add_alternative(b"<p>caf\xe9 cr\xe8me</p>", maintype="text", subtype="html")
    assert body_of(bytes(message)) == ("plain", [])


def test_a_forwarded_message_is_read() -> None:
    """With its own headers: who wrote it is part of it."""
    assert body_of(mixed(part("see below"), attached(letter("inner", "the point")))) == (
        "see below\n\nFrom: Ana <a@x.test>\nTo: b@y.test\nSubject: inner\n\nthe point",
        [],
    )


def attached(message: EmailMessage) -> EmailMessage:
    """A message as a part of another."""
    wrapped = EmailMessage()
    wrapped.set_content(message)
    return wrapped


def test_a_message_whose_parts_cannot_be_told_apart_gives_its_lines_without_base64() -> None:
    """A picture of 20 MB would be ten thousand chunks of nothing."""
    raw = b"Subject: x\nContent-Type: multipart/mixed; boundary=a\n\n--b\n\nread me\n" + b"QUJD" * 19 + b"\n--b--\n"
    assert body_of(raw) == (
        "--b\n\nread me\n--b--",
        ["a message without a part that is text: read as it stands"],
    )


HEAD = b"From: a@b.c\nSubject: s\nMIME-Version: 1.0\n"
TORN = b"Content-Type: multipart/mixed; boundary=WRONG\n\n--B\n\nTHE LETTER\n--B--\n"


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Type: text/plain; name="letter.txt"\n',
        b"Content-Type: text/plain\nContent-Disposition: attachment; filename=a.txt\n",
        b'Content-Type: text/html; name="mail.html"\n',
        b"Content-Type: application/octet-stream\n",
    ],
)
def test_the_only_text_of_a_message_is_its_body_whatever_it_is_called(head: bytes) -> None:
    """Some senders give it a file's name."""
    assert body_of(HEAD + head + b"\nThe whole letter.\n")[0] == "The whole letter."


def test_text_with_a_name_is_read_where_it_is_shown() -> None:
    """Only what is sent as an attachment is one."""
    named = part("log lines")
    named.set_param("name", "log.txt")
    assert body_of(mixed(part("see"), named)) == ("see\n\nlog lines", [])


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: multipart/mixed; boundary=A\n\n--A\n\nhello\n--A\n" + TORN + b"--A--\n",
        b"Content-Type: multipart/mixed; boundary=A\n\n--A\nContent-Type: message/rfc822\n\n" + TORN + b"--A--\n",
        b"Content-Type: message/rfc822\n\n" + TORN,
    ],
)
def test_parts_that_cannot_be_told_apart_are_read_wherever_they_stand(raw: bytes) -> None:
    """With a warning."""
    body, warnings = body_of(HEAD + raw)
    assert "THE LETTER" in body
    assert "a message without a part that is text: read as it stands" in warnings


def test_a_forwarded_message_is_no_alternative() -> None:
    """The plain text beside it says only that it is there."""
    body, _ = body_of(mixed(part("see below"), attached(letter("inner", "the point")), subtype="alternative"))
    assert "see below" in body
    assert "the point" in body


def test_a_forwarded_message_that_was_cut_says_so() -> None:
    """However deep the cut is."""
    raw = HEAD + b"Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\nhello hal"
    assert body_of(raw) == ("hello hal", ["message 1: it ends before its last part does"])


@pytest.mark.parametrize("value", [b"Jane Roe <", b"Jane Roe@", b"=?utf-8?q?a?=" * 16_000])
def test_a_header_that_cannot_be_parsed_is_kept_as_it_stands(value: bytes) -> None:
    """Sixteen thousand encoded words in one would cost the stdlib 3 GB."""
    found, _ = found_in(eml_pages, b"From: " + value + b"\nSubject: s\n\nx\n")
    [page] = [one for one in found if isinstance(one, Page)]
    assert page.text.startswith("From: " + value.decode()[:30])


@pytest.mark.parametrize(("charset", "text"), [("koi8-r", "Привет, Иван"), ("gb2312", "请查收附件")])
def test_the_charset_that_a_message_names_counts_for_its_html(charset: str, text: str) -> None:
    """Such HTML rarely names its own."""
    raw = HEAD + f"Content-Type: text/html; charset={charset}\n\n".encode() + f"<p>{text}</p>".encode(charset)
    assert body_of(raw)[0] == text


def test_a_letter_of_pictures_has_no_text() -> None:
    """Its markup is not what it says."""
    assert body_of(HEAD + b"Content-Type: text/html\n\n<html><body><img src='a.png'></body></html>\n") == ("", [])


def test_a_message_that_was_cut_says_so() -> None:
    """Its last part may be half of it."""
    raw = mixed(part("one"), part("two"))
    assert body_of(raw[: raw.rindex(b"--")]) == ("one\n\ntwo", ["message 1: it ends before its last part does"])


def test_an_html_message_is_its_text() -> None:
    """By the same parser as any page; a wrong charset is found out."""
    raw = b"Subject: x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    raw += b"<html><script>evil()</script><p>caf\xe9 au lait</p>"
    [_, page] = found_in(eml_pages, raw)[0]
    assert isinstance(page, Page)
    assert "café au lait" in page.text
    assert "evil" not in page.text


@pytest.mark.parametrize(
    "raw",
    [
        b"no headers at all",
        b"Subject: =?bogus?q?=\r\n\r\nx",
        b"Content-Type: multipart/mixed\r\n\r\nx",
        b"\x00\xff" * 50,
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!!",
        b"Content-Type: text/plain; charset=nope\r\n\r\nwords",
    ],
)
def test_a_broken_message_does_not_break_the_parser(raw: bytes) -> None:
    """The stdlib's parser records defects; ours reads what there is."""
    found, _ = found_in(eml_pages, raw)
    assert isinstance(found[-1], Page)


def test_a_mailbox_is_its_messages() -> None:
    """A line `From ` begins one only after an empty line; a page each, from whichever on."""
    box = b"".join(
        b"From x@y Mon Sep 17 00:00:00 2001\n" + bytes(letter(f"S{number}", f"body {number}\nFrom here on\n")) + b"\n"
        for number in (1, 2, 3)
    )
    found, _ = found_in(mbox_pages, box)
    pages = [one for one in found if isinstance(one, Page)]
    assert [(page.number, page.heading) for page in pages] == [(1, "S1"), (2, "S2"), (3, "S3")]
    assert "From here on" in pages[1].text
    later, _ = found_in(mbox_pages, box, first_page=3)
    assert [one.heading for one in later if isinstance(one, Page)] == ["S3"]


def test_a_message_that_is_too_large_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read over, not into memory."""
    monkeypatch.setattr(mail, "MAX_MESSAGE_BYTES", 1000)
    box = b"From a Sep 17\n\n" + b"x\n" * 2000 + b"\nFrom b Sep 18\nSubject: small\n\nwords\n"
    found, _ = found_in(mbox_pages, box)
    assert found[0] == Gap(1, 1, "a message of over 1,000 bytes")
    assert [one.heading for one in found if isinstance(one, Page)] == ["small"]

"""E-mail: headers decoded, the body that people read, mailboxes one message at a time."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.models import Gap, Heading
from ingest_pipeline.parsing import detect
from ingest_pipeline_tests.made import mail as made
from ingest_pipeline_tests.made.mail import attached, delivered, letter, mixed, part, picture
from ingest_pipeline_tests.made.words import CZECH, GREEK, JAPANESE, RUSSIAN
from ingest_pipeline_tests.parsers import eml_pages, mail, mbox_pages, parse, parse_named


def test_message() -> None:
    """A message is its headers, decoded, and its plain text; attachments are named in a warning."""
    found = parse(eml_pages, bytes(letter("Grüße", "Hallo\n", html="<p>no</p>", attachment=b"%PDF")))
    assert found.events[0] == Heading(1, "Grüße", 1)
    assert found.text.startswith("From: Ana <a@x.test>\nTo: b@y.test\nSubject: Grüße\n\nHallo")
    assert "no" not in found.text.split("\n\n")[1]
    assert "plan.pdf" in found.warnings[0]
    assert (found.title, found.total_pages) == ("Grüße", 1)


def body_of(raw: bytes) -> tuple[str, list[str]]:
    """What is read behind the headers, and the warnings."""
    found = parse(eml_pages, raw)
    return found.pages[0].text.partition("\n\n")[2], found.warnings


def test_texts_in_order() -> None:
    """Every text of a message is read in its order, also behind a picture."""
    assert body_of(mixed(part("one"), picture("boat.png"), part("<p>two</p>", "html"), part("three"))) == (
        "one\n\ntwo\n\nthree",
        ["message 1: attachments not read: boat.png"],
    )


def test_empty_plain_text() -> None:
    """An empty plain text does not hide the HTML beside it."""
    html = part("<p>the letter</p>", "html")
    assert body_of(mixed(part("\n"), html, subtype="alternative")) == ("the letter", [])
    assert body_of(mixed(html, part("\n"))) == ("the letter", [])


def test_unread_alternative() -> None:
    """What is wrong with an alternative that is not read is no warning."""
    message = EmailMessage()
    message["Subject"] = "parts"
    message.set_content("plain")
    message.add_alternative(b"<p>caf\xe9 cr\xe8me</p>", maintype="text", subtype="html")
    assert body_of(bytes(message)) == ("plain", [])


def test_forwarded_message() -> None:
    """A forwarded message is read with its own headers: who wrote it is part of it."""
    assert body_of(mixed(part("see below"), attached(letter("inner", "the point")))) == (
        "see below\n\nFrom: Ana <a@x.test>\nTo: b@y.test\nSubject: inner\n\nthe point",
        [],
    )


def test_lost_boundary() -> None:
    """A message whose parts cannot be told apart gives its lines without those of base64."""
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
def test_named_body(head: bytes) -> None:
    """The only text of a message is its body, also where the sender gives it a file's name."""
    assert body_of(HEAD + head + b"\nThe whole letter.\n")[0] == "The whole letter."


def test_shown_text_with_name() -> None:
    """Text with a name is read where it is shown: only what is sent as an attachment is one."""
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
def test_nested_lost_boundary(raw: bytes) -> None:
    """Parts that cannot be told apart are read wherever they stand, with a warning."""
    body, warnings = body_of(HEAD + raw)
    assert "THE LETTER" in body
    assert "a message without a part that is text: read as it stands" in warnings


def test_forwarded_no_alternative() -> None:
    """A forwarded message is no alternative to the plain text beside it."""
    body, _ = body_of(mixed(part("see below"), attached(letter("inner", "the point")), subtype="alternative"))
    assert "see below" in body
    assert "the point" in body


def test_cut_forwarded_message() -> None:
    """A forwarded message that was cut says so, however deep the cut is."""
    raw = HEAD + b"Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\nhello hal"
    assert body_of(raw) == ("hello hal", ["message 1: it ends before its last part does"])


@pytest.mark.parametrize("value", [b"Jane Roe <", b"Jane Roe@", b"=?utf-8?q?a?=" * 16_000])
def test_unparsable_header(value: bytes) -> None:
    """A header that cannot be parsed, or costs too much to parse, is kept as it stands."""
    [page] = parse(eml_pages, b"From: " + value + b"\nSubject: s\n\nx\n").pages
    assert page.text.startswith("From: " + value.decode()[:30])


@pytest.mark.parametrize(("charset", "text"), [("koi8-r", "Привет, Иван"), ("gb2312", "请查收附件")])
def test_charset_of_html(charset: str, text: str) -> None:
    """The charset that a message names counts for its HTML, which rarely names its own."""
    raw = HEAD + f"Content-Type: text/html; charset={charset}\n\n".encode() + f"<p>{text}</p>".encode(charset)
    assert body_of(raw)[0] == text


def test_letter_of_pictures() -> None:
    """A letter of pictures has no text: its markup is not what it says."""
    assert body_of(HEAD + b"Content-Type: text/html\n\n<html><body><img src='a.png'></body></html>\n") == ("", [])


def test_cut_message() -> None:
    """A message that was cut says so: its last part may be half of it."""
    raw = mixed(part("one"), part("two"))
    assert body_of(raw[: raw.rindex(b"--")]) == ("one\n\ntwo", ["message 1: it ends before its last part does"])


def test_html_message() -> None:
    """An HTML message is read like any page; a wrong charset is found out."""
    raw = b"Subject: x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    raw += b"<html><script>evil()</script><p>caf\xe9 au lait</p>"
    [page] = parse(eml_pages, raw).pages
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
def test_broken_message(raw: bytes) -> None:
    """A message with defects is read as far as it goes."""
    found = parse(eml_pages, raw)
    assert (len(found.pages), found.gaps) == (1, [])


def test_mailbox() -> None:
    """A mailbox has a page for each message; a line `From ` begins one only after an empty line."""
    box = b"".join(
        b"From x@y Mon Sep 17 00:00:00 2001\n" + bytes(letter(f"S{number}", f"body {number}\nFrom here on\n")) + b"\n"
        for number in (1, 2, 3)
    )
    pages = parse(mbox_pages, box).pages
    assert [(page.number, page.heading) for page in pages] == [(1, "S1"), (2, "S2"), (3, "S3")]
    assert "From here on" in pages[1].text
    assert [page.heading for page in parse(mbox_pages, box, first_page=3).pages] == ["S3"]


def test_huge_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is too large is a gap: it is read over, not into memory."""
    monkeypatch.setattr(mail, "MAX_MESSAGE_BYTES", 1000)
    box = b"From a Sep 17\n\n" + b"x\n" * 2000 + b"\nFrom b Sep 18\nSubject: small\n\nwords\n"
    found = parse(mbox_pages, box)
    assert found.events[0] == Gap(1, 1, "a message of over 1,000 bytes")
    assert [page.heading for page in found.pages] == ["small"]
    assert parse(mbox_pages, b"From a Sep 17\n\n" + b"x\n" * 2000).gaps == [Gap(1, 1, "a message of over 1,000 bytes")]


def test_written_mailbox(tmp_path: Path) -> None:
    """A mailbox of the standard library has its messages in order, in several scripts."""
    subjects, bodies = ("Žádost", "Ο μύλος", "粉屋"), (CZECH, GREEK, JAPANESE)
    letters = [delivered(subject, body) for subject, body in zip(subjects, bodies, strict=True)]
    content = made.box(tmp_path / "box", *letters)
    found = parse_named("inbox", content)
    assert detect.media_type("inbox", content) == detect.MBOX
    assert [(page.number, page.heading) for page in found.pages] == list(enumerate(subjects, start=1))
    assert [page.text.partition("\n\n")[2].strip() for page in found.pages] == list(bodies)
    assert (found.title, found.outline) == ("Žádost", [(1, subject) for subject in subjects])


def test_maildir(tmp_path: Path) -> None:
    """The messages of a Maildir are recognized by what is in them and read."""
    paths = made.maildir(tmp_path / "mail", delivered("Один", RUSSIAN), delivered("Dva", CZECH))
    found = {
        parse_named(path.name, path.read_bytes()).title: parse_named(path.name, path.read_bytes()) for path in paths
    }
    assert set(found) == {"Один", "Dva"}
    assert RUSSIAN in found["Один"].text
    assert "Date: Mon, 05 May 2025 09:00:00 +0000" in found["Dva"].text


def test_message_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message over which the standard library's parser trips is a gap; running out of memory is not."""
    box = b"From a Sep 17\n\nwords\n\nFrom b Sep 18\nSubject: s\n\nmore\n"

    def tripping(*_: object, **__: object) -> EmailMessage:
        raise AttributeError("odd header")

    monkeypatch.setattr(mail.email, "message_from_bytes", tripping)
    assert parse(mbox_pages, box).gaps == [
        Gap(1, 1, "message 1: AttributeError: odd header"), Gap(2, 2, "message 2: AttributeError: odd header"),
    ]  # fmt: skip

    def greedy(*_: object, **__: object) -> EmailMessage:
        raise MemoryError

    monkeypatch.setattr(mail.email, "message_from_bytes", greedy)
    with pytest.raises(MemoryError):
        parse(eml_pages, b"Subject: s\n\nx")
    monkeypatch.undo()
    monkeypatch.setattr(EmailMessage, "__getitem__", greedy)
    with pytest.raises(MemoryError):
        parse(eml_pages, b"Subject: s\n\nx")


@given(st.binary(max_size=600), st.sampled_from([b"", HEAD, HEAD + TORN, b"From a Sep 17\n\nx\n\n"]))
@settings(max_examples=80, deadline=None)
def test_any_bytes(content: bytes, before: bytes) -> None:
    """Whatever bytes come, a message has one page or one gap, and a mailbox numbers what it has."""
    found = parse(eml_pages, before + content)
    assert len(found.pages) + len(found.gaps) == 1
    numbers = sorted(one.number for one in parse(mbox_pages, before + content).pages)
    assert numbers == sorted(set(numbers))

"""Alphabets: which one-byte encoding a text of a Latin language is in, and when not to say."""

from __future__ import annotations

import pytest

from ingest_pipeline.parsing.alphabets import eastern_encoding, latin_encoding

WESTERN = ("cp1252", "mac_roman", "cp850")
CENTRAL = ("cp1250", "iso8859_2", "cp852")
SENTENCES = [
    ("Le cœur déçu mais l’âme plutôt naïve, Louÿs rêva de crapaüter, dès Noël, où il gît, à cet aÿ", ("cp1252",)),
    ("Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich; Ärger, Öl, Übung", WESTERN),
    ("El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío; ¿añoraba? ¡Él no, señor!", WESTERN),
    ("À noite, vovô Kowalsky vê o ímã cair no pé do pinguim queixoso e vovó põe açúcar no chá", WESTERN),
    ("Høj bly gom vandt fræk sexquiz på wc; Ærø, Ålborg, Øresund", ("cp1252", "mac_roman")),
    ("Flygande bäckasiner söka hwila på mjuka tuvor; Åsa, Östen, Ärla", ("cp1252", "mac_roman")),
    ("Kæmi ný öxi hér ykist þjófum nú bæði víl og ádrepa", ("cp1252", "cp850")),
    ("Pijamalı hasta yağız şoföre çabucak güvendi; İstanbul, Şişli, Ğ", ("cp1254",)),
    ("Pchnąć w tę łódź jeża lub ośm skrzyń fig; Żaden z nich, Ślązak", CENTRAL),
    ("Příliš žluťoučký kůň úpěl ďábelské ódy; Šárka a Žofie", CENTRAL),
    ("Kŕdeľ šťastných ďatľov učí pri ústí Váhu mĺkveho koňa obhrýzať kôru a žrať čerstvé mäso", CENTRAL),
    ("Árvíztűrő tükörfúrógép; Őrült írót, bűvös úton, Ödön és Ágnes", CENTRAL),
    ("Gojazni đačić s biciklom drži hmelj i finu vatu u džepu nošnje; Čakovec, Šibenik, Žarko", CENTRAL),
    ("Muzicologă în bej vând whisky şi tequila, preţ fix; Ştefan, Ţara, Îndrăgostit", CENTRAL),
    ("Įlinkdama fechtuotojo špaga sublykčiojusi pragręžė apvalų arbūzą; Žąsys, Ūla, Šešėlis", ("cp1257",)),
    ("Glāžšķūņa rūķīši dzērumā čiepj Baha koncertflīģeļu vākus; Ķekava, Žagars, Ņina", ("cp1257",)),
]


@pytest.mark.parametrize(
    ("text", "encoding"), [(text, encoding) for text, encodings in SENTENCES for encoding in encodings]
)
def test_a_sentence_of_each_language_is_read_in_each_of_its_encodings(text: str, encoding: str) -> None:
    """The letters come back, by whatever name: French is the same in cp1252 and cp1254."""
    content = text.encode(encoding, "ignore")
    found = latin_encoding(content)
    assert found is not None
    assert content.decode(found) == content.decode(encoding), found


def test_a_foreign_name_in_a_long_text_changes_nothing() -> None:
    """Beyoncé's teacher was no Hungarian, the text about him is."""
    content = ("Őrült író tűnődik fűtött szobában. " * 20 + "François Gonçalves. ").encode("cp1250")
    assert latin_encoding(content) in ("cp1250", "iso8859_2")


@pytest.mark.parametrize("text", ["it’s “quoted” – and cut…", "5\u00a0€, 20\u00a0%", "São Paulo", "naïve", "© 2026"])
def test_an_english_text_with_an_odd_sign_is_windows(text: str) -> None:
    """Most of such files were written there."""
    assert latin_encoding(("Plain words all around it. " + text).encode("cp1252")) == "cp1252"


def test_quotes_of_the_mac_are_no_portuguese() -> None:
    """`itÕs` has a capital behind a small letter."""
    content = "It’s “quoted” – and that’s “all”, they’d say.".encode("mac_roman")
    assert latin_encoding(content) == "mac_roman"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Съешь ещё этих мягких французских булок, да выпей чаю", "cp1251"),
        ("Съешь ещё этих мягких французских булок, да выпей чаю", "koi8_r"),
        ("Ξεσκεπάζω την ψυχοφθόρα βδελυγμία", "cp1253"),
        ("דג סקרן שט בים מאוכזב ולפתע מצא חברה", "cp1255"),
        ("いろはにほへと ちりぬるを", "cp932"),
        ("一只敏捷的狐狸跳过懒狗", "gb18030"),
        ("", "ascii"),
        ("plain", "ascii"),
    ],
)
def test_what_no_latin_language_writes_is_left_to_statistics(text: str, encoding: str) -> None:
    """Also where there is nothing to say."""
    assert latin_encoding(text.encode(encoding)) is None


@pytest.mark.parametrize("encoding", ["euc_jp", "cp932"])
def test_japanese_is_told_by_its_kana(encoding: str) -> None:
    """Also a word of it among markup."""
    assert eastern_encoding("<a href='x'>ログインしてください</a> 漢字".encode(encoding)) == encoding


def test_korean_is_told_by_its_syllables_and_chinese_is_neither() -> None:
    """Chinese bytes read as Korean are hangul and hanja mixed."""
    assert eastern_encoding("<p>다람쥐 헌 쳇바퀴에 타고파</p>".encode("cp949")) == "cp949"
    assert eastern_encoding("一只敏捷的狐狸跳过懒狗，视野无限广，窗外有蓝天".encode("gb18030")) is None
    assert eastern_encoding("Съешь ещё этих мягких булок".encode("cp1251")) is None


def test_random_bytes_take_no_time() -> None:
    """They are mostly odd: nobody's text."""
    assert latin_encoding(bytes(range(256)) * 256) is None

"""Alphabets: which one-byte encoding a text of a Latin language is in, and when not to say."""

from __future__ import annotations

import pytest

from ingest_pipeline.parsing.formats.alphabets import eastern_encoding, latin_encoding

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
def test_sentences(text: str, encoding: str) -> None:
    """A sentence of each language is read in each of its encodings, by whatever name of them."""
    content = text.encode(encoding, "ignore")
    found = latin_encoding(content)
    assert found is not None
    assert content.decode(found) == content.decode(encoding), found


def test_foreign_name() -> None:
    """A foreign name in a long text changes nothing."""
    content = ("Őrült író tűnődik fűtött szobában. " * 20 + "François Gonçalves. ").encode("cp1250")
    assert latin_encoding(content) in ("cp1250", "iso8859_2")


@pytest.mark.parametrize("text", ["it’s “quoted” – and cut…", "5\u00a0€, 20\u00a0%", "São Paulo", "naïve", "© 2026"])
def test_odd_sign(text: str) -> None:
    """An English text with an odd sign is cp1252: most of such files were written there."""
    assert latin_encoding(("Plain words all around it. " + text).encode("cp1252")) == "cp1252"


@pytest.mark.parametrize(
    "text",
    [
        "Authors: José García, François Müller, Søren Bøgh, Björn Åkesson, João Simões, Þór Jónsson, Ævar Arnfjörð",
        "Der Vertrag (frz. « Traité », it. Città) wurde in Zürich geschlossen: Liberté, égalité, Graubünden, Größe",
        "Aquest diccionari és de català, amb paraules així com també són: Bokmål noruec, contrasenya vàlida",
        "Íslenska, ensku og frönsku: Nýtt lykilorð, às élèves où naît l’été",
        "The film was 5 µm ± 0.2 µm thick; 37 °C; 10² × 4³; ½ part of Müller’s data; £5, ¥300",
    ],
)
def test_western_mixture(text: str) -> None:
    """Western languages together fit the alphabet of Slovak, too, but have none of the letters that tell it."""
    assert latin_encoding(text.encode("cp1252")) == "cp1252"


@pytest.mark.parametrize(("text", "encoding"), [("Привет, как дела? Всё хорошо", "cp1251"), ("שלום עליכם", "cp1255")])
def test_words_among_markup(text: str, encoding: str) -> None:
    """The bytes of foreign words among markup are all letters in the West, but words of nothing else."""
    content = "".join(f'<tr class="row"><td><a href="/item/change">{word}</a></td></tr>' for word in text.split())
    assert latin_encoding(content.encode(encoding)) is None


def test_quotes_of_the_mac() -> None:
    """`itÕs` has a capital behind a small letter: it is a quote of the Mac, no Portuguese."""
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
def test_left_to_statistics(text: str, encoding: str) -> None:
    """What no Latin language writes is left to statistics, also where there is nothing to say."""
    assert latin_encoding(text.encode(encoding)) is None


@pytest.mark.parametrize("encoding", ["euc_jp", "cp932"])
def test_japanese(encoding: str) -> None:
    """Japanese is told by its kana, also a word of it among markup."""
    assert eastern_encoding("<a href='x'>ログインしてください</a> 漢字".encode(encoding)) == encoding


def test_korean() -> None:
    """Korean is told by its syllables; Chinese bytes read as Korean are hangul and hanja mixed."""
    assert eastern_encoding("<p>다람쥐 헌 쳇바퀴에 타고파</p>".encode("cp949")) == "cp949"
    assert eastern_encoding("一只敏捷的狐狸跳过懒狗，视野无限广，窗外有蓝天".encode("gb18030")) is None
    assert eastern_encoding("Съешь ещё этих мягких булок".encode("cp1251")) is None


@pytest.mark.parametrize("text", ["テストデータ", "重要な日程", "削除"])
def test_short_japanese(text: str) -> None:
    """Short Japanese is neither Latin nor Korean."""
    assert latin_encoding(text.encode("cp932")) is None
    assert eastern_encoding(text.encode("cp932")) in (None, "cp932")


def test_short_chinese() -> None:
    """Many bytes of short Chinese are Korean syllables, rare ones."""
    assert eastern_encoding("公安机关办案部".encode("gb18030")) is None


def test_random_bytes() -> None:
    """Random bytes are mostly odd: nobody's text."""
    assert latin_encoding(bytes(range(256)) * 256) is None

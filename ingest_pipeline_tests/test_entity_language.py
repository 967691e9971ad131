"""Which texts a model is not for: other languages are recognized; tables, names and code stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.entities.language import RIVALS, LanguageFilter, stop_words

SENTENCES = {
    "en": "The harbour was closed for two days because the storm had damaged the pier that the fishermen use.",
    "de": "Der Hafen war zwei Tage lang geschlossen, weil der Sturm die Mole beschädigt hatte, die sie brauchen.",
    "fr": "Le port est resté fermé pendant deux jours, parce que la tempête avait abîmé la jetée des pêcheurs.",
    "es": "El puerto estuvo cerrado durante dos días porque la tormenta había dañado el muelle de los pescadores.",
    "it": "Il porto è rimasto chiuso per due giorni perché la tempesta aveva danneggiato il molo dei pescatori.",
    "pt": "O porto esteve fechado durante dois dias porque a tempestade tinha danificado o cais dos pescadores.",
    "nl": "De haven was twee dagen gesloten omdat de storm de pier had beschadigd die de vissers gebruiken.",
    "sv": "Hamnen var stängd i två dagar eftersom stormen hade skadat piren som fiskarna brukar använda.",
    "da": "Havnen var lukket i to dage, fordi stormen havde ødelagt den mole, som fiskerne plejer at bruge.",
    "fi": "Satama oli suljettu kaksi päivää, koska myrsky oli vaurioittanut laituria, jota kalastajat käyttävät.",
    "pl": "Port był zamknięty przez dwa dni, ponieważ burza uszkodziła molo, z którego korzystają rybacy.",
    "cs": "Přístav byl dva dny zavřený, protože bouře poškodila molo, které používají rybáři, a nebylo ho jak opravit.",
    "ro": "Portul a fost închis două zile, pentru că furtuna a stricat digul pe care îl folosesc pescarii.",
    "hu": "A kikötő két napig zárva volt, mert a vihar megrongálta azt a mólót, amelyet a halászok használnak.",
    "tr": "Liman iki gün kapalı kaldı, çünkü fırtına çok güçlüydü ve iskele zarar gördü; bu da herkes için kötü oldu.",
    "ru": "Порт был закрыт два дня, потому что шторм повредил причал, которым пользуются рыбаки.",
    "uk": "Порт був зачинений два дні, бо шторм пошкодив причал, яким користуються рибалки.",
    "el": "Το λιμάνι έμεινε κλειστό για δύο ημέρες, επειδή η καταιγίδα είχε καταστρέψει την προβλήτα.",
    "zh": "港口关闭了两天,因为暴风雨损坏了渔民使用的码头。",
    "ja": "嵐で漁師たちの桟橋が壊れたため、港は二日間閉鎖された。",
    "ar": "أُغلق الميناء يومين لأن العاصفة ألحقت أضرارًا بالرصيف الذي يستخدمه الصيادون.",
}
KEPT = {
    "a table": "id,name,gender,born\n1,Allen Male,male,1901\n2,Anna Male,female,1922\n3,Allen Berg,male,1930\n" * 4,
    "names": "Johann Sebastian Bach, Ludwig van Beethoven, Clara Schumann, Fanny Hensel, Franz Schubert, Hugo Wolf",
    "addresses": "Rue de la Paix 5, Paris; Calle de Alcalá 42, Madrid; Via Roma 12, Bari; Unter den Linden 6, Berlin",
    "code": "for el in os.listdir(de):\n    if el.is_dir():\n        la[el] = con.get(el, 'no')\n    return la",
    "numbers": "1 2 3 44 5.5 6,000 - 7 % 8 € 9/10",
    "nothing": " \n ",
    "single letters": "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3,
    "a quotation": "The motto of the city, 'Fluctuat nec mergitur', is on the arms that it has had since 1358.",
}


@pytest.fixture(scope="module")
def english() -> LanguageFilter:
    return LanguageFilter("en")


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences(english: LanguageFilter, language: str) -> None:
    """One sentence is enough to know that it is not English."""
    assert english.is_foreign(SENTENCES[language]) is (language != "en")


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_no_language_stays(english: LanguageFilter, kind: str) -> None:
    """Tables, names and code have few frequent words of any language, or the same one again and again."""
    assert not english.is_foreign(KEPT[kind])


@pytest.mark.parametrize("own", ["de", "fr", "es", "pl", "ru", "uk"])
def test_models_of_other_languages(own: str) -> None:
    """Each model keeps its own language, and is not for English, though most files are in it."""
    of_model = LanguageFilter(own)
    assert not of_model.is_foreign(SENTENCES[own])
    assert of_model.is_foreign(SENTENCES["en"])


@pytest.mark.parametrize("own", ["zh", "ja", "el", "ar"])
def test_models_of_other_scripts(own: str) -> None:
    """A script decides without words: such a model keeps its own, and none in Latin letters."""
    assert not LanguageFilter(own).is_foreign(SENTENCES[own])
    assert LanguageFilter(own).is_foreign(SENTENCES["de"])


def test_a_model_of_many_languages_reads_all() -> None:
    """SpaCy calls their language `xx`."""
    assert not any(LanguageFilter("xx").is_foreign(sentence) for sentence in SENTENCES.values())


def test_a_language_without_a_list_of_words() -> None:
    """Then only the script decides."""
    assert stop_words("nothing") == frozenset()
    assert not LanguageFilter("nothing").is_foreign(SENTENCES["de"])
    assert LanguageFilter("nothing").is_foreign(SENTENCES["ru"])


def test_every_rival_has_words() -> None:
    """A misspelled code would compare with nothing."""
    assert [rival for rival in RIVALS if len(stop_words(rival)) < 100] == []


def test_a_mixed_text_stays(english: LanguageFilter) -> None:
    """English with a German sentence in it has more English words than half of the German ones."""
    assert not english.is_foreign(SENTENCES["en"] + " " + SENTENCES["de"])


@given(text=st.text(), words=st.lists(st.sampled_from(sorted(SENTENCES["en"].split())), min_size=20, max_size=60))
def test_english_words_outweigh_a_few_others(text: str, words: list[str]) -> None:
    """Any text has an answer; twenty words of English in any order are never foreign."""
    of_model = LanguageFilter("en")
    assert of_model.is_foreign(text) in (True, False)
    assert not of_model.is_foreign(" ".join(words))

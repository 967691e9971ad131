"""Texts become vectors: which model, in which groups, and what comes out of the real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.embedding import precision
from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.batching import (
    ACTIVATION_SHARE,
    MIN_BATCH_TOKENS,
    batch_tokens,
    micro_batches,
)
from ingest_pipeline.embedding.choice import budget_of, card_of, engine_of
from ingest_pipeline.embedding.export import exported_model, pooling_of
from ingest_pipeline.embedding.load import load_embedder, prepare_engine
from ingest_pipeline.embedding.model import (
    PACKAGED,
    PACKAGED_SHA256,
    ModelFiles,
    model_card,
    model_folder,
    weights_sha256,
)
from ingest_pipeline.engines import ENGINES
from ingest_pipeline.errors import BadSetting, ModelExportFailed, ModelMismatch
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.models import StoredChunk
from ingest_pipeline.settings import Settings, read_settings
from ingest_pipeline_tests import toy_engine

GIB = 1024**3
quick = settings(max_examples=40, deadline=None)
needs_bf16 = pytest.mark.skipif(not precision.has_bf16(), reason="this processor has no bf16 instructions")
TORCH_FLOOR_BYTES = ENGINES["torch"].f32.floor_bytes


def stored(lengths: list[int]) -> list[StoredChunk]:
    """Chunks of these many tokens, in the order of their file."""
    return [
        StoredChunk(
            generation_id=1, ordinal=ordinal, text=f"text {ordinal}", text_hash=bytes([ordinal % 256]), tokens=length
        )
        for ordinal, length in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def real() -> Iterator[Embedder]:
    """The packaged model, loaded once."""
    yield load_embedder(Settings(engine="torch"), model_card(PACKAGED))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the packaged model's folder."""
    folder = tmp_path / "copied-model"
    shutil.copytree(model_folder(PACKAGED), folder)
    return folder


def test_the_packaged_model_is_known() -> None:
    """Without loading it: its name, its weights, the shape of its work."""
    card = model_card(PACKAGED)
    assert card.name == "all-MiniLM-L6-v2"
    assert card.identity == PACKAGED_SHA256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert card.dimension == 384
    assert card.max_tokens == 254


def test_the_packaged_files_match_the_card() -> None:
    """The card in the source is the one that the files on disk have."""
    folder = model_folder(PACKAGED)
    assert weights_sha256(folder) == PACKAGED_SHA256
    assert replace(model_card(str(folder)), name=PACKAGED) == model_card(PACKAGED)


def test_a_model_in_a_folder_is_the_same(copied: Path) -> None:
    """A model in a folder is named after its folder and identified by its weights."""
    card = model_card(str(copied))
    assert card == replace(model_card(PACKAGED), name="copied-model")
    assert model_card(f"{copied}/").name == "copied-model"


def test_tampered_weights_are_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flipped bit in 90 MB, and the model is never loaded."""
    card = model_card(str(copied))
    weights = copied / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(weights.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    monkeypatch.setattr("ingest_pipeline.embedding.torch.TorchEmbedder", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(ModelMismatch) as caught:
        load_embedder(Settings(model=str(copied), engine="torch"), card)
    assert caught.value.expected == PACKAGED_SHA256
    assert caught.value.found == weights_sha256(copied) != PACKAGED_SHA256


def test_other_weights_are_another_model(copied: Path) -> None:
    """A model with changed weights has another identity, so that its vectors are not mixed with those of the first."""
    with (copied / "model.safetensors").open("ab") as stream:
        stream.write(b"\0")
    assert model_card(str(copied)).identity != PACKAGED_SHA256


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    """A model without a tokenizer is a bad setting; the message names the variable and what is expected."""
    with pytest.raises(BadSetting, match=r"INGEST_MODEL.*tokenizer\.json"):
        model_folder(str(tmp_path))
    with pytest.raises(BadSetting, match="INGEST_MODEL"):
        model_card(str(tmp_path))


def test_a_folder_without_weights(copied: Path) -> None:
    """A model without weights is a bad setting."""
    (copied / "model.safetensors").unlink()
    with pytest.raises(BadSetting, match="INGEST_MODEL"):
        model_card(str(copied))


def test_a_folder_without_a_configuration(copied: Path) -> None:
    """Nobody can tell such a model's dimension: a bad setting in one line, no traceback."""
    (copied / "config.json").unlink()
    shutil.rmtree(copied / "1_Pooling")
    with pytest.raises(BadSetting, match="INGEST_MODEL"):
        model_card(str(copied))


def test_a_damaged_tokenizer(copied: Path) -> None:
    """A damaged tokenizer is a bad setting in one line, no traceback."""
    (copied / "tokenizer.json").write_text("{")
    with pytest.raises(BadSetting, match="INGEST_MODEL"):
        model_card(str(copied))


def test_a_model_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that nobody has is a bad setting, whatever the hub's library raises."""

    def unreachable(name: str) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(BadSetting) as caught:
        model_card("nobody/no-such-model")
    assert "INGEST_MODEL='nobody/no-such-model'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dense_layer_gives_the_dimension(copied: Path) -> None:
    """A model that ends in a layer that changes the dimension has that layer's dimension."""
    (copied / "2_Dense").mkdir()
    (copied / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 384, "out_features": 128}))
    assert model_card(str(copied)).dimension == 128


@given(st.lists(st.integers(min_value=0, max_value=600), max_size=60), st.integers(min_value=1, max_value=5000))
@quick
def test_each_chunk_is_in_one_micro_batch(lengths: list[int], budget: int) -> None:
    """No chunk is lost, none is embedded twice, no micro-batch is empty."""
    groups = list(micro_batches(stored(lengths), max_batch_tokens=budget))
    assert all(groups)
    assert sorted(chunk.ordinal for group in groups for chunk in group) == list(range(len(lengths)))


@given(
    st.lists(st.integers(min_value=0, max_value=600), max_size=60),
    st.integers(min_value=1, max_value=5000),
    st.integers(min_value=0, max_value=4),
)
@quick
def test_micro_batches_keep_their_budget(lengths: list[int], budget: int, special: int) -> None:
    """A micro-batch of more than one chunk is within its budget, every chunk padded to the longest of its group."""
    for group in micro_batches(stored(lengths), max_batch_tokens=budget, special_tokens=special):
        padded = max(chunk.tokens + special for chunk in group) * len(group)
        assert padded <= budget or len(group) == 1


@given(st.lists(st.integers(min_value=0, max_value=600), max_size=60), st.integers(min_value=1, max_value=5000))
@quick
def test_chunks_of_like_length_go_together(lengths: list[int], budget: int) -> None:
    """Lengths never fall from group to group: little is padded, and the order is the same every time."""
    groups = list(micro_batches(stored(lengths), max_batch_tokens=budget))
    flat = [(chunk.tokens, chunk.ordinal) for group in groups for chunk in group]
    assert flat == sorted(flat)
    assert groups == list(micro_batches(list(reversed(stored(lengths))), max_batch_tokens=budget))


def test_chunks_that_fit_are_one_group() -> None:
    """Sixteen chunks of 254 and 2 tokens are 4096: one group."""
    assert [len(group) for group in micro_batches(stored([254] * 33), max_batch_tokens=4096)] == [16, 16, 1]


def test_no_chunks_are_no_groups() -> None:
    """Nothing to do."""
    assert list(micro_batches([], max_batch_tokens=100)) == []


@given(st.integers(min_value=0, max_value=64 * GIB), st.integers(min_value=1, max_value=4096))
@quick
def test_a_micro_batch_has_its_share(headroom: int, dimension: int) -> None:
    """Never below one chunk, never above what is useful, in between within its share of the headroom."""
    tokens = batch_tokens(RunBudget(TORCH_FLOOR_BYTES + headroom, "torch"), dimension=dimension)
    assert MIN_BATCH_TOKENS <= tokens <= ENGINES["torch"].f32.max_batch_tokens
    cost = tokens * dimension * ENGINES["torch"].f32.bytes_per_token
    assert cost <= headroom * ACTIVATION_SHARE or tokens == MIN_BATCH_TOKENS


def test_more_headroom_no_smaller_batches() -> None:
    """From the least headroom to the most, step by step, no micro-batch is smaller than the one before."""
    sizes = [
        batch_tokens(RunBudget(TORCH_FLOOR_BYTES + mib * 1024**2, "torch"), dimension=384) for mib in range(0, 500, 5)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == MIN_BATCH_TOKENS
    assert sizes[-1] == ENGINES["torch"].f32.max_batch_tokens


def test_the_least_batch_holds_one_chunk() -> None:
    """The smallest micro-batch holds one chunk of the packaged model, with its special tokens."""
    assert model_card(PACKAGED).max_tokens + 2 <= MIN_BATCH_TOKENS


def test_real_vectors_are_unit_and_in_order(real: Embedder) -> None:
    """The real model gives a float32 row of length 1 for each text, in their order, and like texts lie closer."""
    texts = ["A cat sits on the mat.", "The interest rate of the central bank rises.", "A kitten is lying on a rug."]
    vectors = real.embed(texts)
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    cosine = vectors @ vectors.T
    assert cosine[0, 2] > 0.5 > cosine[0, 1]
    assert np.allclose(real.embed(list(reversed(texts))), vectors[::-1], atol=1e-5)


def test_neighbours_change_no_vector(real: Embedder) -> None:
    """A text has the same vector whatever it is embedded with: vectors are kept by the hash of their text."""
    text = "A short text."
    alone = real.embed([text])[0]
    beside = real.embed(["word " * 250, text, "x"])[1]
    assert np.allclose(alone, beside, atol=1e-5)


def test_no_texts_have_no_vectors(real: Embedder) -> None:
    """No texts give no rows, in the right shape."""
    assert real.embed([]).shape == (0, 384)


def test_a_loaded_model_knows_its_card(real: Embedder) -> None:
    """The store keeps vectors under its identity."""
    assert real.card == model_card(PACKAGED)


PROSE = "The steam boxes are descaled every two hundred hours with citric acid, never with vinegar. "
CODE = "def merge(left, right):\n    while left and right:\n        yield min(left, right).pop(0)\n"
TEXTS_BY_KIND = {
    "prose": [PROSE * 8, "Short."],
    "code": [CODE * 4, "SELECT path, count(*) FROM chunks JOIN files USING (generation_id) GROUP BY path;"],
    "table": ["| month | flour, kg | price |\n|---|--:|--:|\n" + "| March | 1,204.50 | 0.87 |\n" * 12],
    "record": ['{"id": 4711, "isbn": "978-3-16-148410-0", "tags": ["mill", "oat"], "in_stock": false}' * 3],
    "link": ["https://example.org/a/very/long/path?with=parameters&and=more#fragment " * 6],
    "ukrainian": ["Ціна на каву зросла на десять відсотків, бо врожай у Бразилії був малим. " * 5],
    "chinese": ["数据库中的向量是单位长度的。每个文件只有一代对读者可见。" * 8],
    "noise": ["word " * 400, "", "aGVsbG8gd29ybGQ=" * 40],
}
TEXTS = [text for texts in TEXTS_BY_KIND.values() for text in texts]


@pytest.fixture(scope="module")
def exported_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the packaged model is exported."""
    home = tmp_path_factory.mktemp("exported")
    prepare_engine(Settings(home=home))
    return home


@pytest.fixture(scope="module", params=["f32", pytest.param("bf16", marks=needs_bf16)])
def lean(request: pytest.FixtureRequest, exported_home: Path) -> Iterator[Embedder]:
    """The packaged model in OpenVINO, in each precision that this processor has."""
    yield load_embedder(Settings(home=exported_home, engine="openvino", precision=request.param), model_card(PACKAGED))


def test_both_engines_give_the_same_vectors(real: Embedder, lean: Embedder) -> None:
    """Cosine at least 0.9995 for every kind of text, together or alone, so that all may fill one index."""
    expected = real.embed(TEXTS)
    alone = np.concatenate([lean.embed([text]) for text in TEXTS])
    for computed in (lean.embed(TEXTS), alone):
        assert computed.dtype == np.float32
        assert np.allclose(np.linalg.norm(computed, axis=1), 1, atol=1e-5)
        assert (expected * computed).sum(axis=1).min() >= 0.9995


def test_each_kind_of_text_has_its_own_vector(lean: Embedder) -> None:
    """The gate above compares vectors that differ: no two of these texts are near each other."""
    vectors = lean.embed(TEXTS)
    assert len(TEXTS_BY_KIND) >= 6
    assert np.triu(vectors @ vectors.T, 1).max() < 0.9


def test_memory_does_not_grow_with_shapes(exported_home: Path) -> None:
    """A hundred shapes of input grow a process by less than 64 MiB: compiled code is kept for a few of them only."""
    script = (
        "import sys; from pathlib import Path; from ingest_pipeline.settings import Settings\n"
        "from ingest_pipeline.embedding.load import load_embedder\n"
        "from ingest_pipeline.embedding.model import PACKAGED, model_card\n"
        "embedder = load_embedder(Settings(home=Path(sys.argv[1])), model_card(PACKAGED))\n"
        "size = lambda: next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmData'))\n"
        "embedder.embed(['word ' * 250] * 4); before = size()\n"
        "for words in range(8, 250, 16):\n"
        "    for rows in range(1, 1024 // (words + 8), 2): embedder.embed(['word ' * words] * rows)\n"
        "print((size() - before) // 1024)"
    )
    command = [sys.executable, "-c", script, str(exported_home)]
    grown = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert int(grown.stdout) < 64


@pytest.mark.parametrize(
    ("flags", "wanted", "precision_used"),
    [
        ("fpu avx2", "auto", "f32"),
        ("fpu avx2 avx512f avx512_vnni", "auto", "f32"),
        ("fpu avx512_bf16", "auto", "bf16"),
        ("fpu amx_bf16 amx_tile", "auto", "bf16"),
        ("fpu avx512_bf16", "f32", "f32"),
        ("fpu avx512_bf16", "bf16", "bf16"),
    ],
)
def test_precision(
    flags: str, wanted: str, precision_used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 only where the processor's flags say so: AVX-512 alone would emulate it."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    monkeypatch.setattr(precision, "CPUINFO", cpuinfo)
    assert precision.precision_of(wanted) == precision_used


def test_bf16_without_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask for what the processor lacks is a bad setting, said before anything starts; so on an unknown system."""
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "nowhere")
    assert precision.precision_of("auto") == "f32"
    with pytest.raises(BadSetting, match=r"INGEST_PRECISION='bf16'.*no bf16 instructions"):
        prepare_engine(Settings(home=tmp_path, precision="bf16"))
    with pytest.raises(BadSetting, match="INGEST_PRECISION='f16'"):
        read_settings({"INGEST_PRECISION": "f16"})


def test_the_engine_is_chosen_by_the_model(copied: Path, tmp_path: Path) -> None:
    """OpenVINO computes what it can at every budget, torch the rest; a named engine is taken as it is."""
    asked = Settings(model=str(copied), home=tmp_path)
    assert engine_of(asked) == engine_of(replace(asked, run_memory=64 * GIB)) == "openvino"
    assert engine_of(replace(asked, engine="torch")) == "torch"
    (copied / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    assert engine_of(asked) == budget_of(asked).engine == "torch"
    assert engine_of(replace(asked, engine="openvino")) == "openvino"


def test_torch_computes_what_cannot_be_exported(copied: Path, tmp_path: Path) -> None:
    """An export that failed by itself is not tried again: torch computes; who asked for OpenVINO is told."""
    (copied / "config.json").write_text(
        '{"model_type": "nonsense", "max_position_embeddings": 512, "hidden_size": 384}'
    )
    asked = Settings(model=str(copied), home=tmp_path / "home")
    prepare_engine(asked)
    assert engine_of(asked) == "torch"
    with pytest.raises(ModelExportFailed, match="copied-model"):
        prepare_engine(replace(asked, engine="openvino"))
    [noted] = (tmp_path / "home" / "models").glob("*.failed")
    assert noted.name.endswith(f"-openvino-{version('openvino')}.failed")  # another version tries again
    assert "nonsense" in noted.read_text()


@pytest.mark.parametrize("code", [-9, 1])
def test_an_export_that_was_killed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A kill or a full disk is not the model's fault: OpenVINO stays the engine."""
    asked = Settings(home=tmp_path)
    killed = subprocess.CompletedProcess([], code, b"", b"OSError: No space left on device")
    monkeypatch.setattr("ingest_pipeline.embedding.export.subprocess.run", lambda *_, **__: killed)
    with pytest.raises(ModelExportFailed):
        prepare_engine(asked)
    assert engine_of(asked) == "openvino"


def test_openvino_with_no_texts(lean: Embedder) -> None:
    """OpenVINO gives no rows for no texts: shape (0, 384)."""
    assert lean.embed([]).shape == (0, 384)


def test_a_model_is_exported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process finds it; a half-written export of a killed one does not count."""
    made: list[Path] = []

    def pretend(folder: Path, cached: Path) -> None:
        made.append(cached)
        cached.mkdir()
        (cached / "model.xml").write_text("<net/>")

    monkeypatch.setattr("ingest_pipeline.embedding.export._export_in_child", pretend)
    model = ModelFiles(model_folder(PACKAGED), model_card(PACKAGED), "openvino")
    first = exported_model(model, home=tmp_path)
    assert exported_model(model, home=tmp_path) == first
    assert len(made) == 1
    first.unlink()
    made[0].rmdir()
    assert exported_model(model, home=tmp_path) == first
    assert len(made) == 2


def test_an_export_that_fails_says_why(copied: Path, tmp_path: Path) -> None:
    """One line from the child's end, and nothing is cached."""
    (copied / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(ModelExportFailed, match="copied-model: the export to OpenVINO failed"):
        exported_model(ModelFiles(copied, model_card(PACKAGED), "openvino"), home=tmp_path / "home")
    assert not list((tmp_path / "home").rglob("model.xml"))


def test_openvino_cannot_serve_every_model(copied: Path) -> None:
    """A model with another pooling, or layers behind it, would have other vectors: a bad setting."""
    assert pooling_of(copied) == "mean"
    pooling = copied / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"word_embedding_dimension": 384, "pooling_mode_max_tokens": True}))
    with pytest.raises(BadSetting, match=r"INGEST_MODEL.*pooling"):
        pooling_of(copied)
    pooling.write_text(json.dumps({"word_embedding_dimension": 384, "pooling_mode_cls_token": True}))
    assert pooling_of(copied) == "cls"
    modules = json.loads((copied / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (copied / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(BadSetting, match="INGEST_MODEL"):
        pooling_of(copied)


def test_toy_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module and a row make an engine: it is a setting, is prepared, loads, and its vectors are another model's."""
    monkeypatch.setitem(ENGINES, "toy", toy_engine.ROW)
    asked = read_settings({"INGEST_ENGINE": "toy", "INGEST_HOME": str(tmp_path), "INGEST_RUN_MEMORY": "400MiB"})
    budget, card = budget_of(asked), card_of(asked)
    budget.require_room()
    assert card.identity != model_card(PACKAGED).identity == card_of(Settings()).identity
    prepare_engine(asked)
    assert (tmp_path / "prepared").read_text().endswith(PACKAGED)
    embedder = load_embedder(asked, card)
    vectors = embedder.embed(["the mill", "", "mill the"])
    assert vectors.shape == (3, card.dimension)
    assert np.allclose(vectors[0], vectors[2])
    with pytest.raises(ModelMismatch):
        load_embedder(replace(asked, engine="torch"), card)

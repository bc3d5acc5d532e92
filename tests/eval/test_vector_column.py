"""Vectors as columns: those of the store by sample, from any number of ranks, and refused if the model differs."""

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from tercet.api.model import Model
from tercet.api.vector_column import embed_column
from tercet.command import main
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.columns import read_column
from tercet.data_pipelines.mapped_column import MappedColumn
from tercet.data_pipelines.sample import TextIntake
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.embedding import vector_column
from tercet.eval.embedding.store import Store
from tercet.eval.embedding.vector_column import SourceVectors, TermTemperature, VectorManifest, hashes, write_vectors
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import build_model
from tercet.models.space import SpaceConfig
from tercet.testing import on_ranks
from tercet.training.selection.reference import temperatures
from tests.eval.stored import stored, tiny
from tests.tercet.test_queries import SPACE

TERMS = (TermTemperature(("image", "text"), 14.0, None),)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = WorldConfig(
        train=70, val=4, combinations=4, size=32, seconds=0.5, samples_per_shard=30, workers=1, missing={"audio": 0.3}
    )
    return generate(config, tmp_path_factory.mktemp("world")) / "train"


def write(world: World, store: str, folder: str) -> None:
    with patch.object(vector_column, "PIECES", 2):
        write_vectors(Store(Path(store)), "abc 0 0.5", Path(folder), tiny(), "tiny", TERMS, world)


def test_a_column_has_the_vectors_of_the_store_whoever_writes_it(shards: Path, tmp_path: Path) -> None:
    store = stored(tmp_path / "store", shards)
    table = store.table()
    for ranks in (1, 2):
        on_ranks(write, ranks, str(store.folder), str(tmp_path / str(ranks)))
    files = {path.name: path.read_bytes() for path in (tmp_path / "1" / "abc_0_0.5").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "2" / "abc_0_0.5").iterdir()}
    assert len(files) == 3
    column = read_column(tmp_path / "1", "abc 0 0.5")
    assert column.id_n.tolist() == [sample.id for sample in table.samples]
    for name in ("image", "audio"):
        expected = torch.zeros(len(table.samples), 16)
        expected[table.items[name]] = table.vectors[name]
        assert np.abs(column.values[name].astype(np.float32) - expected.numpy()).max() < 1e-3
    assert not column.values["audio"].any(axis=1).all(), "some samples have no sound"
    most = max(len(sample.text) for sample in table.samples)
    assert column.values["text"].shape == (70, most, 16)
    model = tiny()
    intake = model.tower("text").intake
    assert isinstance(intake, TextIntake)
    for row, sample in enumerate(table.samples):
        found = column.values["text"][row, : len(sample.text)].astype(np.float32)
        assert np.abs(found - model.embed_text(list(sample.text)).numpy()).max() < 1e-3
        tokens = intake.tokenize(list(sample.text))
        assert column.values["caption"][row, : len(sample.text)].tolist() == hashes(tokens.numpy()).tolist()
        assert not column.values["caption"][row, len(sample.text) :].any()
    manifest = VectorManifest.read(tmp_path / "2")
    assert manifest.temperatures == TERMS
    assert manifest.sources == {"abc 0 0.5": SourceVectors(70, ("image", "audio", "text"), (), most)}


def test_one_folder_holds_one_model(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no vectors.json; write it: tercet embed MODEL"):
        VectorManifest.read(tmp_path)
    first, other = stored(tmp_path / "first", shards), stored(tmp_path / "other", shards, tiny(seed=1))
    write_vectors(first, "a", tmp_path / "out", tiny(), "first", TERMS, World())
    write_vectors(first, "b", tmp_path / "out", tiny(), "first", TERMS, World())
    assert set(VectorManifest.read(tmp_path / "out").sources) == {"a", "b"}
    with pytest.raises(UserError, match=r"out has the vectors of first with other weights; name another folder"):
        write_vectors(other, "a", tmp_path / "out", tiny(), "other", TERMS, World())


def test_the_command_writes_a_column_with_the_temperatures_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SpaceConfig.model_validate(SPACE | {"objective": {"name": "sigmoid"}})
    built = build_model(config.model, config.terms, 0)
    model = str(export_folder(built, config, tmp_path / "model"))
    rows = []
    for index in range(6):
        Image.new("RGB", (32, 32), (40 * index, 0, 0)).save(tmp_path / f"{index}.png")
        rows.append({"image": f"{index}.png", "caption": f"boat {index}", "other": f"ship {index}"})
    (tmp_path / "boats.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data, out = str(tmp_path / "boats.jsonl"), tmp_path / "vectors"
    command = ["embed", model, "--data", data, "text=caption", "--out", str(out), "--format", "column"]
    assert main(command) == 0
    assert "image 6 × 16" in capsys.readouterr().out
    manifest = VectorManifest.read(out)
    ((fingerprint, about),) = manifest.sources.items()
    assert about == SourceVectors(6, ("image", "text"), ())
    (term,) = manifest.temperatures
    with torch.no_grad():
        scale, bias = built.head.temperature("image-text")
    assert term == TermTemperature(("image", "text"), pytest.approx(float(scale)), pytest.approx(float(bias)))
    expected = Model(built, "tiny").embed(image=[str(tmp_path / f"{index}.png") for index in (4, 1)]).vectors["image"]
    found, _ = MappedColumn(out, fingerprint, "image").rows(np.array([4, 1]))
    assert np.abs(found - expected.numpy()).max() < 1e-3
    both = embed_column(model, {"source": data, "text": ["caption", "other"]}, tmp_path / "both")
    assert both.samples(0)[3].text == ("boat 3", "ship 3")
    (several,) = VectorManifest.read(tmp_path / "both").sources.values()
    assert several == SourceVectors(6, ("image", "text"), most=2)
    places = {"source": data, "text": "caption", "captions": {"txt": 1, "json.more": 1}}
    embed_column(model, places, tmp_path / "places")
    (drawn,) = VectorManifest.read(tmp_path / "places").sources.values()
    assert drawn == SourceVectors(6, ("image",), ("json.more", "txt"))


def test_concatenated_models_have_no_temperature() -> None:
    assert temperatures("a+b", tiny()) == []

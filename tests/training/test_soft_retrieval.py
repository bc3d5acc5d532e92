"""A run whose captions retrieve pictures, and captions in another language, from stored vectors. No data are paired."""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, normalize

from tercet.api.features import embed_features
from tercet.configs.base import build
from tercet.configs.yaml_text import write_yaml
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.columns import Column, read_column, write_column
from tercet.data_pipelines.features import FeatureManifest, StoredSource, StoredTower
from tercet.data_pipelines.retrieval_config import RetrievalConfig
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.interop.folder import export_folder
from tercet.models.multimodal import build_model
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.features import soft_retrieval
from tercet.training.features.soft_retrieval import RetrievalMemory
from tercet.training.preflight.checks import dry_run
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, assert_same_run, losses, recipe, run, saved

BATCH = 8
ENGLISH: dict[str, Any] = {"part": [0, 0.5], "captions": {"json.captions.en": 1}}
GERMAN: dict[str, Any] = {"part": [0.5, 1], "captions": {"json.captions.de": 1}, "fields": ["text"]}
PHOTOS: dict[str, Any] = {"part": [0.5, 1], "fields": ["image"]}
PAIRS = {"english": ("image.english", "text"), "retrieved": ("image.near", "text.near")}  # of infonce
TERMS = [
    {"name": "english", "between": ["image.english", "text"], "objective": {"name": "infonce", "scale": 20}},
    {"name": "retrieved", "between": ["image.near", "text.near"], "objective": {"name": "infonce", "scale": 20}},
    {
        "name": "distance",
        "between": ["text", "text.near"],
        "objective": {"name": "align_uniform", "alpha": 1, "uniformity": 0},
        "weight": 0.1,
    },
]


def locked(english: Path, noise: float = 0.0) -> dict[str, Any]:
    model = {name: deepcopy(MODEL[name]) for name in ("dim", "image", "text")}
    for name in ("image", "text"):
        model[name] |= {"unlocked": 0, "projection": {"hidden": 12, "unit": True, "noise": noise}}
    model["text"]["cached"] = str(english)
    return model


def values(stored: Path, out: Path, noise: float = 0.0, **changes: Any) -> dict[str, Any]:
    fields = {
        "image.english": {"from": "text", "features": str(stored / "clip")},
        "image.near": {"from": "image.english", "among": {"features": str(stored / "photos"), "temperature": 0.1}},
        "text.near": {"from": "text", "among": {"features": str(stored / "german"), "nearest": 5}},
    }
    train = {"source": str(stored / "world/train"), "fields": ["text"], **ENGLISH}
    options: dict[str, Any] = {
        "model": locked(stored / "english", noise), "data": {"train": train, "worker": "thread"}, "fields": fields,
        "pairs": {}, "terms": TERMS, "batch_size": BATCH, "steps": 4, "zero": 2, "ema": None,
        "checkpoint": {"every": 2}, "eval": {"tasks": [], "report": False},
    }  # fmt: skip
    return recipe(stored, out, **(options | changes))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """English captions by both text towers, and the pictures and the German captions of other samples."""
    out = tmp_path_factory.mktemp("stored")
    config = WorldConfig(
        train=48,
        val=8,
        combinations=0,
        size=32,
        seconds=0.5,
        samples_per_shard=24,
        workers=1,
        languages={"de": 0, "en": 0},
    )
    generate(config, out / "world")
    (out / "uclip.yaml").write_text(write_yaml(values(out, out / "run")))
    space = {"model": {**MODEL, "audio": None}, "pairs": {"image-text": 1.0}}
    clip = build(RunConfig, recipe(out, out / "clip-run", **space), lambda key: "recipe")
    export_folder(build_model(clip.model, clip.terms, 5), clip, out / "clip-model")
    train = str(out / "world/train")
    embed_features(out / "clip-model", {"source": train, **ENGLISH}, out / "clip")
    embed_features(out / "uclip.yaml", None, out / "english")
    embed_features(out / "uclip.yaml", {"source": train, **PHOTOS}, out / "photos")
    embed_features(out / "uclip.yaml", {"source": train, **GERMAN}, out / "german")
    return out


def vectors(folder: Path, name: str) -> NDArray[np.float64]:
    """One vector of each sample, ordered by id, with length 1."""
    (fingerprint,) = FeatureManifest.read(folder, "test").sources
    column = read_column(folder, fingerprint)
    found = column.values[name].reshape(len(column.id_n), -1).astype(np.float64)
    assert (column.values[f"{name}.rows"] == 1).all()
    return unit(found)


def unit(z_nD: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = z_nD / np.linalg.norm(z_nD, axis=1, keepdims=True)
    return found


def retrieved(
    query_nD: NDArray[np.float64], z_MD: NDArray[np.float64], temperature: float, nearest: int | None
) -> NDArray[np.float64]:
    rows = []
    for query_D in query_nD:
        cosines = [float(query_D @ z_D) for z_D in z_MD]
        kept = sorted(range(len(z_MD)), key=lambda place: -cosines[place])[:nearest]
        weights = [np.exp((cosines[place] - max(cosines)) / temperature) for place in kept]
        rows.append(sum(weight * z_MD[place] for weight, place in zip(weights, kept, strict=True)) / sum(weights))
    return np.stack(rows)


@pytest.mark.parametrize("nearest", [None, 1, 3, 1000])
def test_a_row_is_the_weighted_mean_of_the_memory(tmp_path: Path, nearest: int | None) -> None:
    """Two sources, some of whose samples have no captions, or fewer than others."""
    draw, rows = np.random.default_rng(0), {"a": [2, 0, 1], "b": [3, 1]}
    captions = {source: draw.normal(size=(len(counts), 3, 6)).astype(np.float32) for source, counts in rows.items()}
    for source, counts in rows.items():
        column = Column(np.arange(len(counts)), {"text": captions[source], "text.rows": np.array(counts)})
        write_column(tmp_path, source, column)
    about = {source: StoredSource(len(counts), len(counts), ("text",), {}) for source, counts in rows.items()}
    FeatureManifest("m", {"text": StoredTower("d", 6)}, about).write(tmp_path)
    config = RetrievalConfig(features=str(tmp_path), temperature=0.05, nearest=nearest)
    memory = RetrievalMemory("key", "text", config, torch.device("cpu"))
    exist = [captions[source][n, c] for source, counts in rows.items() for n, k in enumerate(counts) for c in range(k)]
    z_MD, query_nD = (unit(np.stack(rows).astype(np.float64)) for rows in (exist, draw.normal(size=(5, 6))))
    with patch.object(soft_retrieval, "COSINES", 2 * len(z_MD)):  # two queries at a time
        found = memory(torch.from_numpy(3 * query_nD).float())  # of any length
    np.testing.assert_allclose(found.numpy(), retrieved(query_nD, z_MD, 0.05, nearest), atol=1e-5)
    assert memory(torch.zeros(0, 6)).shape == (0, 6)


def test_the_first_losses_are_those_of_the_formulas(stored: Path, tmp_path: Path) -> None:
    """One batch is all captions of the run, so their order does not count."""
    english, clip = vectors(stored / "english", "text"), vectors(stored / "clip", "text")
    on_ranks(run_all, 1, [(values(stored, tmp_path, steps=1, batch_size=len(english)), None)])
    config = RunConfig.model_validate(values(stored, tmp_path))
    head = build_model(config.model, config.terms, config.seed).requires_grad_(False).head
    near = retrieved(clip, vectors(stored / "photos", "image"), 0.1, None)
    foreign = retrieved(english, vectors(stored / "german", "text"), 0.01, 5)
    given = {"image.english": clip, "text": english, "image.near": near, "text.near": foreign}
    z = {
        name: normalize(head.project(name.partition(".")[0], torch.from_numpy(row).float()))
        for name, row in given.items()
    }
    expected = {name: contrast(z[one] @ z[other].T) for name, (one, other) in PAIRS.items()}
    expected["distance"] = float((z["text"] - z["text.near"]).norm(dim=1).mean())
    (line,) = lines(tmp_path)
    assert {name: line[f"loss/{name}"] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert line["loss"] == pytest.approx(
        line["loss/english"] + line["loss/retrieved"] + 0.1 * line["loss/distance"], rel=1e-5
    )


def contrast(cosine_nn: torch.Tensor) -> float:
    own = torch.arange(len(cosine_nn))
    return float((cross_entropy(20 * cosine_nn, own) + cross_entropy(20 * cosine_nn.T, own)) / 2)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_ranks_resumes_and_chunks_change_nothing(stored: Path, tmp_path: Path) -> None:
    """Noise follows from the rank and the chunk, as dropout does, so it is left out where these differ."""
    plain, noisy = (values(stored, tmp_path / name, noise) for name, noise in (("one", 0.0), ("noisy", 0.05)))
    parts = values(stored, tmp_path / "parts", 0.05)
    on_ranks(run_all, 1, [(plain, None), (noisy, None), (parts, 3), (parts, None)])
    two = values(stored, tmp_path / "two", micro_batch=3)
    on_ranks(run_all, 2, [(two, None)])
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert_same_run(tmp_path / "noisy", tmp_path / "parts")
    assert losses(tmp_path / "noisy")[0] != losses(tmp_path / "one")[0]
    config = RunConfig.model_validate(plain)
    begun = build_model(config.model, config.terms, config.seed).state_dict()
    one, other = saved(tmp_path / "one"), saved(tmp_path / "two")
    for path, value in begun.items():
        name = f"weight/{path}"
        torch.testing.assert_close(other[name], one[name], rtol=1e-4, atol=1e-6, msg=path)
        if path.startswith(("towers.", "head.projections")):
            assert one[name].equal(value) == path.startswith("towers."), path


def test_a_run_resumes_with_the_same_memory_only(stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored / "photos", tmp_path / "memory")
    written = values(stored, tmp_path / "run")
    written["fields"]["image.near"]["among"]["features"] = str(tmp_path / "memory")
    run(World(), written, 2)
    more = {"source": str(stored / "world/val"), "fields": ["image"]}
    embed_features(stored / "uclip.yaml", more, tmp_path / "memory")
    with pytest.raises(UserError, match=r"fields\.image\.near\.among\.features: .*has other vectors than when"):
        run(World(), written)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"image.near": {"from": "image", "among": {"features": "f"}}},
            "fields.image.near.from` is `image`, which has no stored vectors; known: image.english, text",
        ),
        (
            {"image.english": {"from": "json.caption", "features": "f"}},
            "fields.image.english.from` is `json.caption`, of which `features` has no vectors",
        ),
        (
            {"image.english": {"from": "text", "features": "f", "rows": 2}},
            "fields.image.english.rows` has no effect on stored vectors; leave it out",
        ),
        (
            {"image.english": {"from": "text", "features": "f", "among": {"features": "f"}}},
            "fields.image.english.among` and `features` are both given; remove one of them",
        ),
        (
            {"image.other": {"from": "text", "features": "f"}, "image.near": {"from": "image.other"}},
            "fields.image.near.from` is `image.other`, which no term compares; add a term between it and another",
        ),
    ],
)
def test_fields_that_nothing_can_fill_are_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    written = values(tmp_path, tmp_path / "run")
    for name, field in fields.items():
        known = written["fields"].get(name, {}) if field.keys() == {"from"} else {}
        written["fields"][name] = known | field
    with pytest.raises(UserError) as refused:
        build(RunConfig, written, lambda key: "recipe")
    assert message in str(refused.value)


def test_other_lengths_and_wrong_folders_are_refused(stored: Path, tmp_path: Path) -> None:
    written = values(stored, tmp_path)
    written["model"]["image"]["projection"] = {"hidden": 12}
    with pytest.raises(UserError, match=r"gets means of vectors of length 1 from `fields\.image\.near`"):
        build(RunConfig, written, lambda key: "recipe")
    written = values(stored, tmp_path)
    written["model"]["image"]["projection"] = {"noise": 0.1}
    with pytest.raises(UserError, match="is for outputs of length 1; set `unit: true`, or leave it out"):
        build(RunConfig, written, lambda key: "recipe")
    written = values(stored, tmp_path)
    written["fields"]["image.near"]["among"]["features"] = str(tmp_path)
    with pytest.raises(UserError, match=r"fields\.image\.near\.among\.features: .* has no features\.json"):
        dry_run(build(RunConfig, written, lambda key: "recipe"))
    written["fields"]["image.near"]["among"]["features"] = str(stored / "clip")
    with pytest.raises(UserError, match=r"fields\.image\.near\.among\.features: .* outputs of another image tower"):
        run(World(), written)
    written = values(stored, tmp_path)
    written["fields"]["text.near"]["among"]["features"] = str(stored / "photos")
    with pytest.raises(UserError, match=r"fields\.text\.near\.among\.features: .* has no vectors of text"):
        run(World(), written)

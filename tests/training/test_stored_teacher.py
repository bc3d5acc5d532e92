"""A stored teacher knows the very pictures, sounds and captions that a step trains on, on one rank and two."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from tercet.api.view_column import embed_views
from tercet.command import main
from tercet.configs.base import build
from tercet.configs.yaml_text import write_yaml
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.batches.view_loader import ViewLoader
from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.dataset import generate
from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.sources.open import open_source
from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.embedding import view_writer
from tercet.eval.embedding.view_column import ViewManifest
from tercet.models.losses.terms import Known, Outcome, Terms
from tercet.models.multimodal import build_model
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.pretrained import load_model
from tests.training.test_memory_teacher import exported
from tests.training.test_resume import run_all
from tests.training.tiny import assert_same_run, recipe, run

TAUGHT = {"objective": {"name": "soft"}, "references": {"teacher": "large"}}
AUGMENT = {"image": {"flip": 0.5, "jitter": 0.8, "blur": 0.3}, "audio": {"gain": [-6, 6], "time_masks": 1}}
TERMS = [
    {"between": ["image", "text"], **TAUGHT},
    {"between": ["image", "text.synthetic"], **TAUGHT},
    {"between": ["audio", "text"], **TAUGHT},
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = WorldConfig(
        train=30, val=8, combinations=4, size=40, seconds=0.7, samples_per_shard=15, workers=1, synthetic=0.2,
        missing={"audio": 0.2},
    )  # fmt: skip
    return generate(config, tmp_path_factory.mktemp("views"))


def values(shards: Path, out: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """Eight steps of ten samples: an epoch is three of them."""
    data = {
        "train": str(shards / "train"), "crop": [0.4, 1.0], "augment": AUGMENT, "workers": 0, "views": {"count": 2},
    }  # fmt: skip
    more = {"memories": {"large": {"kind": "stored_teacher", "folder": str(folder)}}, "steps": 8, "batch_size": 10}
    found = recipe(shards, out, data={**data, **changes.pop("data", {})}, terms=TERMS, **{**more, **changes})
    del found["pairs"]
    return found | {"fields": {"text.synthetic": {"from": "json.synthetic"}}}


def written(out: Path, recipe: dict[str, Any]) -> Path:
    out.mkdir(exist_ok=True)
    path = out / "recipe.yaml"
    path.write_text(write_yaml(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("teacher"))


def store(world: World, teacher: Path, path: Path, out: Path, stored: Any = "fp32") -> None:
    with patch.object(view_writer, "PIECE", 8):
        embed_views(str(teacher), str(path), out, stored=stored)


@pytest.fixture(scope="module")
def folder(shards: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stored")
    store(World(), teacher, written(out, values(shards, out, out)), out / "vectors")
    return out / "vectors"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_the_teacher_saw_the_inputs_of_the_learner_to_the_bit(shards: Path, tmp_path: Path) -> None:
    """Both loaders draw the same views by themselves."""
    config = build(RunConfig, values(shards, tmp_path, tmp_path), lambda key: "recipe")
    learner = build_model(config.model, config.terms, 0)
    media = {name: learner.intakes[name] for name in ("image", "audio")}
    source = open_source(str(shards / "train"))
    seen: dict[tuple[str, int, int], bytes] = {}
    for one in ViewLoader(config.data, "train", source, media, [range(8), range(8, 30)]):
        seen |= rows_of(one.batch)
    keys = {(id, seed) for _, id, seed in seen}
    assert len(keys) == 30 * 2
    data = config.data.model_copy(update={"workers": 1, "worker": "thread"})
    loader = Loader(data, {"train": source}, media, 10, seed=77)
    drawn: dict[tuple[str, int, int], bytes] = {}
    for _, batch in zip(range(9), loader, strict=False):  # three epochs, of which the third repeats the first
        drawn |= rows_of(batch)
    assert drawn == seen
    pictures = {value for (name, *_), value in seen.items() if name == "image"}
    assert len(pictures) == 60, "the two views of a sample differ"


def rows_of(batch: Batch) -> dict[tuple[str, int, int], bytes]:
    assert batch.seeds is not None
    found = {}
    for name, field in batch:
        for row, item in zip(field.values, field.item, strict=True):
            found[name, int(batch.ids[item]), int(batch.seeds[item])] = row.numpy().tobytes()
    return found


def watched(world: World, run_values: dict[str, Any], teacher: Path) -> list[str]:
    """The rows of each step whose stored vector is not that of the teacher itself."""
    model, call, faults = load_model(str(teacher)), Terms.__call__, []

    def look(self: Terms, batch: Batch, vectors: Any, t: Any, w: World, known: Known, step: int) -> Outcome:
        own = model.embed(batch)
        for name, rows in known.frozen.items():
            mine = rows.z_Nd[rows.own]
            if len(mine) and not torch.allclose(mine, own[name.removeprefix("large.")], atol=1e-5):
                faults.append(f"step {step}: {name} on rank {world.rank}")
        if known.frozen.keys() != {"large.image", "large.audio", "large.text", "large.text.synthetic"}:
            faults.append(f"offered are {sorted(known.frozen)}")
        return call(self, batch, vectors, t, w, known, step)

    with patch.object(Terms, "__call__", look):
        run(world, run_values)
    return faults


def test_stored_vectors_are_those_of_the_teacher_on_the_same_batch(
    shards: Path, folder: Path, teacher: Path, tmp_path: Path
) -> None:
    """The masks of sounds are not applied for a teacher. The seed of the run changes its order, not the views."""
    assert watched(World(), values(shards, tmp_path, folder, seed=5), teacher) == []


def on_two_ranks(world: World, teacher: Path, path: Path, out: Path, run_values: dict[str, Any]) -> list[str]:
    store(world, teacher, path, out)
    return watched(world, run_values, teacher)


def test_an_interrupted_command_resumes_on_two_ranks_which_train_with_the_result(
    shards: Path, folder: Path, teacher: Path, tmp_path: Path
) -> None:
    path, add = written(tmp_path, values(shards, tmp_path, tmp_path)), view_writer.write_part
    done: list[Path] = []

    def stops(*arguments: Any) -> Path:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(add(*arguments))
        return done[-1]

    with patch.object(view_writer, "write_part", stops), pytest.raises(KeyboardInterrupt):
        store(World(), teacher, path, tmp_path / "vectors")
    begun = files(tmp_path / "vectors")
    assert len(begun) == 2
    assert refusal(lambda: run(World(), values(shards, tmp_path / "run", tmp_path / "vectors"))).startswith(
        f"memories.large.folder: {tmp_path / 'vectors'} has only a part of the source `train`"
    )
    trained = values(shards, tmp_path / "two", tmp_path / "vectors", steps=3)
    assert on_ranks(on_two_ranks, 2, teacher, path, tmp_path / "vectors", trained) == [[], []]
    assert {name: value for name, value in files(tmp_path / "vectors").items() if name in begun} == begun
    assert files(folder).keys() == files(tmp_path / "vectors").keys()
    for one, other in zip(tensors(folder), tensors(tmp_path / "vectors"), strict=True):
        assert all((one[name] == other[name]).all() for name in ("id", "seed", "caption"))
        assert all(np.allclose(one[name], other[name], atol=1e-5) for name in ("image", "audio", "text"))
    assert ViewManifest.read(tmp_path / "vectors") == ViewManifest.read(folder)


def test_a_resumed_run_is_bit_equal(shards: Path, folder: Path, tmp_path: Path) -> None:
    whole = values(shards, tmp_path / "whole", folder)
    parts = values(shards, tmp_path / "parts", folder, checkpoint={"every": 3})
    run_all(World(), [(whole, None), (parts, 4), (parts, None)])
    one = assert_same_run(tmp_path / "whole", tmp_path / "parts")
    (name,) = (name for name in one if name.startswith("memory/large/"))
    assert name.startswith("memory/large/fingerprint-")


def test_a_later_stage_may_read_other_data_of_the_folder(shards: Path, teacher: Path, tmp_path: Path) -> None:
    stored, val = tmp_path / "vectors", str(shards / "val")
    short = {"batch_size": 8, "steps": 2}
    store(World(), teacher, written(tmp_path, values(shards, tmp_path, tmp_path)), stored)
    store(World(), teacher, written(tmp_path, values(shards, tmp_path, tmp_path, data={"train": val}, **short)), stored)
    stages = [{"name": "first", "steps": 1}, {"name": "second", "steps": 1, "set": {"data.train": val}}]
    assert watched(World(), values(shards, tmp_path / "run", stored, stages=stages, **short), teacher) == []


def test_the_command_stores_half_precision_by_default(
    shards: Path, folder: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, values(shards, tmp_path, tmp_path))
    command = ["embed", str(teacher), "--views", str(path), "data.views.count=1", "--out", str(tmp_path / "half")]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["count"], printed["stored"]) == (1, "fp16")
    (one,) = tensors(tmp_path / "half")
    exact = {name: np.concatenate([part[name] for part in tensors(folder)]) for name in one}
    assert one["image"].dtype == np.float16
    assert np.abs(one["image"][:, 0] - exact["image"][:, 0]).max() < 5e-4
    assert (one["seed"][:, 0] == exact["seed"][:, 0]).all()
    assert main([*command, "data.views.count=3"]) == 2
    assert capsys.readouterr().err.endswith(
        "it has 1 views in fp16, not 3 in fp16; name another folder, or remove it\n"
    )


def tensors(folder: Path) -> list[dict[str, Any]]:
    from safetensors.numpy import load_file

    return [load_file(path) for path in sorted(folder.glob("*/*.safetensors"))]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"crop": [0.5, 1.0]}}, "data.crop is [0.5, 1.0], but the stored views have [0.4, 1.0]"),
        ({"data": {"augment": {"image": {"flip": 1}}}}, "data.augment is {"),
        ({"data": {"views": {"count": 2, "seed": 1}}}, "data.views.seed is 1, but the stored views have 0"),
        ({"data": {"views": {"count": 3}}}, "has 2 views of each sample, and data.views.count is 3; lower it"),
        ({"model.image.size": 48}, "the input of image is ImageIntake(size=(48, 48)"),
        ({"data": {"train": "val"}}, "has nothing of the source `train` as it is now; add it: tercet embed"),
        ({"memories": {"large": {"kind": "stored_teacher", "folder": "none"}}}, "none has no views.json; write it"),
        ({"data": {"views": None}}, "memories.large` needs the views that its folder was written for"),
        ({"data": {"mode": "stream"}}, "`data.views` needs samples with ids: set `mode: index`"),
        ({"data": {"augment": {"audio": {"mix": 0.5}}}}, "mixes other samples into a view, which cannot be stored"),
    ],
)
def test_other_views_or_data_are_refused_in_one_line(
    shards: Path, folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    size = changes.pop("model.image.size", None)
    if changes.get("data", {}).get("train"):
        changes = {"data": {"train": str(shards / "val")}, "batch_size": 8}
    given = values(shards, tmp_path / "run", folder, **changes)
    if size:
        given["model"] = {**given["model"], "image": {**given["model"]["image"], "size": size}}
    found = refusal(lambda: run(World(), build(RunConfig, given, lambda key: "recipe").model_dump(mode="json")))
    assert message in found

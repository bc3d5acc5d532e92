"""Runs whose batches are composed of neighbours or clusters: alike on two processes and one, resumed and refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import yaml

import tercet
from tercet.api.cluster import cluster
from tercet.command import main
from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.columns import Column, write_column
from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.sources.open import open_source
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.testing import on_ranks
from tercet.training.checkpoints.plans import cursors_for
from tercet.training.checkpoints.progress import Progress
from tercet.training.config import RunConfig
from tercet.training.preflight.checks import counted, dry_run
from tests.training.tiny import MODEL, losses, recipe, run, saved

SAMPLES = 96


@pytest.fixture
def columns(world_folder: Path, tmp_path: Path) -> Path:
    """A graph in which the neighbours of a sample are the next ones, and clusters of 30, 30, 30 and 6 samples."""
    fingerprint = open_source(str(world_folder / "train")).fingerprint
    id_N = np.arange(SAMPLES)
    neighbors = (id_N[:, None] + np.arange(1, 5)) % SAMPLES
    scores = np.tile(np.linspace(0.9, 0.6, 4, dtype=np.float32), (SAMPLES, 1))
    write_column(tmp_path / "graph", fingerprint, Column(id_N, {"neighbors": neighbors, "scores": scores}))
    write_column(tmp_path / "clusters", fingerprint, Column(id_N, {"label": id_N // 30}))
    return tmp_path


def values(world_folder: Path, columns: Path, name: str, kind: str, **changes: Any) -> dict[str, Any]:
    composed = {"neighbors": {"graph": str(columns / "graph")}, "clusters": {"column": str(columns / "clusters")}}
    train = {"source": str(world_folder / "train"), kind: composed[kind]}
    data = {"train": train, "crop": None, "workers": 0}
    model = {name: MODEL[name] for name in ("dim", "image", "text")}
    pairs = {"image-text": 1.0}
    return recipe(world_folder, columns / name, data=data, model=model, pairs=pairs, steps=6, **changes)


def trained(world: World, values: dict[str, Any], stop: int | None = None) -> list[list[int]]:
    """The ids of this rank's batches."""
    seen: list[list[int]] = []
    made = Loader.__iter__

    def noted(self: Loader) -> Iterator[Batch]:
        for batch in made(self):
            seen.append(batch.ids.tolist())
            yield batch

    with patch.object(Loader, "__iter__", noted):
        run(world, values, stop)
    return seen


def interrupted_and_resumed(world: World, values: dict[str, Any]) -> None:
    run(world, values, stop=2)
    world.barrier()
    run(world, values)


@pytest.mark.parametrize("kind", ["neighbors", "clusters"])
def test_two_processes_train_on_the_batches_of_one_and_a_run_resumes(
    kind: str, world_folder: Path, columns: Path
) -> None:
    one, two, again = (values(world_folder, columns, name, kind) for name in ("one", "two", "again"))
    again["checkpoint"] = {"every": 1}
    (alone,) = on_ranks(trained, 1, one)
    parts = on_ranks(trained, 2, two)
    assert [list(chain(*batch)) for batch in zip(*parts, strict=True)][:6] == alone[:6]
    assert losses(columns / "two") == pytest.approx(losses(columns / "one"), rel=1e-4)
    for batch in alone[:6]:
        if kind == "neighbors":
            assert sum((id + gap) % SAMPLES in batch for id in batch for gap in range(1, 5)) >= 8
        else:
            assert len({id // 30 for id in batch}) == 1
    on_ranks(interrupted_and_resumed, 1, again)
    straight, resumed = saved(columns / "one"), saved(columns / "again")
    assert all(resumed[name].equal(value) for name, value in straight.items())


def test_a_run_refuses_a_graph_that_changed(world_folder: Path, columns: Path) -> None:
    config = values(world_folder, columns, "run", "neighbors", checkpoint={"every": 1})
    run(World(), config, stop=2)
    (graph,) = (columns / "graph").glob("*/*.safetensors")
    before = graph.read_bytes()
    graph.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(UserError, match=r"data\.train\.train\.neighbors changed since the last checkpoint"):
        run(World(), config)
    graph.write_bytes(before)
    (columns / "graph").rename(columns / "moved")
    config["data"]["train"]["neighbors"]["graph"] = str(columns / "moved")
    run(World(), config)
    (plan,) = (columns / "run" / "plans").glob("*.json")
    (share,) = json.loads(plan.read_text())["shares"]
    assert (share["samples"], share["neighbors"].split()[1]) == (192, "16")


def test_an_epoch_has_every_sample_once_as_a_seed(world_folder: Path, columns: Path) -> None:
    both = {kind: values(world_folder, columns, "run", kind) for kind in ("neighbors", "clusters")}
    configs = {kind: RunConfig.model_validate(one | {"steps": 0, "epochs": 2}) for kind, one in both.items()}
    steps = {kind: counted(config, World(), OpenedSources()).steps for kind, config in configs.items()}
    assert steps == {"neighbors": 2 * 2 * SAMPLES / 16, "clusters": 2 * 3}, "a batch of 16 from each cluster of 30"


def test_a_stage_with_other_batches_starts_at_the_beginning(world_folder: Path, columns: Path) -> None:
    stages: list[dict[str, Any]] = [{"name": name, "steps": 2, "set": {}} for name in ("a", "b", "c")]
    stages[1]["set"] = {"data.train.train.neighbors.max_score": 0.7}
    stages[2]["set"] = {"data.train.train.neighbors.max_score": 0.7, "batch_size": 8}
    config = RunConfig.model_validate(values(world_folder, columns, "run", "neighbors", stages=stages))
    progress = Progress(step=2, stage=0, cursors={"train": 32})
    found = [cursors_for(config, config.stage(stage), progress) for stage in range(3)]
    assert found == [{"train": 32}, {}, {}]
    assert cursors_for(config, config.stage(2), replace(progress, stage=1)) == {}


@pytest.mark.parametrize(("kind", "line"), [
    ("neighbors", "8 of 16 samples of a batch are neighbours of others, by "),
    ("clusters", "each batch comes from one of 3 clusters of 30 to 30 samples; 1 small cluster with 6 samples left"),
])  # fmt: skip
def test_the_command_line_says_what_the_order_is(
    kind: str, line: str, world_folder: Path, columns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = columns / "tiny.yaml"
    path.write_text(yaml.safe_dump(values(world_folder, columns, "run", kind)))
    folder = columns / ("graph" if kind == "neighbors" else "clusters")
    assert main(["recipes", "show", str(path)]) == 0
    shown = {
        "neighbors": "graph: {}: 96 samples, up to 4 neighbours each",
        "clusters": "column: {}: 96 samples in 4 cl",
    }
    assert f"# data.train.train.{kind}.{shown[kind].format(folder)}" in capsys.readouterr().out
    assert main(["train", str(path), "--dry-run"]) == 0
    told = capsys.readouterr()
    planned = {"neighbors": "0.5ofitneighboursby", "clusters": "eachbatchfromoneclusterby"}
    assert planned[kind] in "".join(told.out.split()), "the table folds long lines"
    assert f"tercet: data.train.train: {line}" in told.err
    stats = ["data", "stats", str(world_folder / "train"), "--workers", "1", f"--{kind}", str(folder)]
    assert main(stats) == 0
    facts = {"neighbors": "4 neighbours a sample, 0 samples without any", "clusters": "4 clusters of 6 to 30 samples"}
    assert facts[kind] in capsys.readouterr().out
    assert main([*stats, "--out", str(columns / "stats.html")]) == 0
    assert facts[kind] in (columns / "stats.html").read_text()
    capsys.readouterr()
    assert main([*stats, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[kind]
    assert found["folder"] == str(folder)
    assert found.get("clusters", 4) == 4


@pytest.mark.parametrize("kind", ["neighbors", "clusters"])
def test_a_dry_run_refuses_a_missing_folder(kind: str, world_folder: Path, columns: Path) -> None:
    config = values(world_folder, columns / "elsewhere", "run", kind)
    with pytest.raises(UserError, match=r"elsewhere/(graph|clusters) does not exist; write one with `tercet data"):
        dry_run(RunConfig.model_validate(config))


def test_neighbours_and_clusters_of_a_run_fit_the_data_that_it_was_trained_on(
    world_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share of the data is held out, so ids count the rest."""
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    model = {name: MODEL[name] for name in ("dim", "image", "text")}
    data: dict[str, Any] = {"source": str(world_folder / "train"), "held_out": 0.25, "crop": None, "workers": 0}
    first = recipe(world_folder, tmp_path / "first", data=data, model=model, pairs={"image-text": 1.0}, steps=2)
    run(World(), first)
    tercet.mine(str(tmp_path / "first"), None, tmp_path / "graph", split="train", num_negatives=3)
    clusters = cluster(str(tmp_path / "first"), None, tmp_path / "groups", clusters=2, split="train")
    assert 48 < sum(clusters.sources[0].sizes) < SAMPLES
    for name, order in {
        "neighbors": {"neighbors": {"graph": str(tmp_path / "graph")}},
        "clusters": {"clusters": {"column": str(tmp_path / "groups")}},
    }.items():
        run(World(), first | {"out": str(tmp_path / name), "batch_size": 8, "data": data | order})
        assert len(losses(tmp_path / name)) == 2

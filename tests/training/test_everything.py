"""Recipes with all that a run can remember and choose, killed at random, and moved to other processes.

The first: a queue, wrong captions, a second crop, averaged weights, cartography, selection by loss, two sources and
gradient caching: at every ZeRO stage, on one process and on two. The second, `everything_tiny.yaml`: batches of
neighbours, captions made wrong by rule, hard negatives, a momentum encoder and its queue, own negatives only,
distillation, prototypes of two pairs of fields, and a queue in clusters.
"""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tercet.distributed import World
from tercet.testing import RankFailed, on_ranks
from tests.training.test_selection import selected
from tests.training.tiny import MODEL, losses, recipe, run, saved

STEPS = 12
STAGES = (0, 1, 2, 3)


def everything(world_folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    sources = {"scenes": {"source": str(world_folder / "train"), "weight": 2.0}, "more": str(world_folder / "val")}
    return recipe(
        world_folder,
        out,
        steps=STEPS,
        batch_size=8,
        micro_batch=3,
        model={**MODEL, "audio": None},
        data={"train": sources, "crop": [0.5, 1.0], "worker": "thread"},
        fields={
            "text.negative": {"from": "json.negatives", "rows": 2},
            "image.local": {"from": "image", "rows": 2, "crop": [0.1, 0.4], "size": 16},
        },
        pairs={},
        terms=[
            {"between": ["image", "text"], "against": {"image": ["text.negative"], "text": ["queue.image"]}},
            {"between": ["image.local", "text"], "objective": "sigmoid", "weight": 0.5},
        ],
        memories={"queue": {"fields": ["image"], "size": 20, "start": 1}, "cartography": {"term": "image-text"}},
        selection={"name": "loss", "filter_ratio": 0.5, "strata": 2},
        checkpoint={"every": 2},
        **changes,
    )


def negatives_and_prototypes(world_folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """`everything_tiny.yaml` on two sources, of which one brings neighbours by the vectors of the last episode."""
    scenes = {"source": str(world_folder / "train"), "weight": 2.0, "neighbors": {"graph": "episode", "range_max": 4}}
    parts = yaml.safe_load(Path(__file__).with_name("everything_tiny.yaml").read_text(encoding="utf-8"))
    values = recipe(
        world_folder,
        out,
        steps=STEPS,
        batch_size=8,
        micro_batch=3,
        data={
            "train": {"scenes": scenes, "more": str(world_folder / "val")},
            "val": str(world_folder / "val"),
            "crop": [0.5, 1.0],
            "worker": "thread",
        },
        checkpoint={"every": 2},
        **parts,
        **changes,
    )
    del values["ema"]  # it is among the memories
    return values


def run_all(world: World, jobs: list[dict[str, Any]]) -> None:
    for values in jobs:
        run(world, values)


def run_killed(world: World, values: dict[str, Any], seconds: float) -> None:
    """Trains until this process is killed, so long after its first checkpoint."""

    def kill() -> None:
        while not list((Path(values["out"]) / "checkpoints").glob("step_????????")):
            time.sleep(0.01)
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    run(world, values)
    time.sleep(60)  # a run that ends before is killed all the same


def assert_resumed_as_if_never_killed(
    world: int, stages: tuple[int, ...], make: Callable[..., dict[str, Any]], shards: Path, folder: Path
) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    straight = [make(shards, folder / f"straight{zero}", zero=zero) for zero in stages]
    killed = [make(shards, folder / f"killed{zero}", zero=zero) for zero in stages]
    for values in killed:
        for _ in range(2):
            with pytest.raises(RankFailed, match="died without"):
                on_ranks(run_killed, world, values, dice.uniform(0, 0.3))
    on_ranks(run_all, world, [*straight, *killed])
    for zero in stages:
        whole, parts = saved(folder / f"straight{zero}"), saved(folder / f"killed{zero}")
        assert whole.keys() == parts.keys()
        assert [name for name in whole if not torch.equal(whole[name], parts[name])] == [], f"seed {seed}, stage {zero}"
        assert selected(folder / f"straight{zero}") == selected(folder / f"killed{zero}")
        assert losses(folder / f"straight{zero}") == losses(folder / f"killed{zero}")
        assert len(losses(folder / f"straight{zero}")) == STEPS


def remembered(out: Path) -> set[str]:
    return {name.split("/")[1] for name in saved(out) if name.startswith("memory/")}


@pytest.mark.long
@pytest.mark.parametrize("world", [1, 2])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(world_folder: Path, tmp_path: Path, world: int) -> None:
    assert_resumed_as_if_never_killed(world, STAGES, everything, world_folder, tmp_path)
    assert remembered(tmp_path / "killed0") == {"ema", "queue", "cartography"}


@pytest.mark.long
def test_negatives_and_prototypes_resume_as_if_never_killed_and_evaluate(world_folder: Path, tmp_path: Path) -> None:
    assert_resumed_as_if_never_killed(2, (1, 3), negatives_and_prototypes, world_folder, tmp_path)
    assert remembered(tmp_path / "killed3") == {"bank", "ema", "momentum", "queue"}
    for zero in (1, 3):
        straight, killed = (tmp_path / f"{name}{zero}" for name in ("straight", "killed"))
        for name in ("clusters", "sounds"):
            newest = "episodes/step_00000010/memories/" + name + "/tensors.safetensors"
            assert (straight / newest).read_bytes() == (killed / newest).read_bytes()
        assert results(straight) == results(killed)


def results(out: Path) -> Any:
    found = json.loads((out / "eval.json").read_text(encoding="utf-8"))
    assert found
    return found


@pytest.mark.long
def test_a_recorded_selection_is_replayed_on_another_number_of_processes(world_folder: Path, tmp_path: Path) -> None:
    """One process selects; two repeat its selection at every stage. Two that select anew differ at near ties only."""
    on_ranks(run_all, 1, [everything(world_folder, tmp_path / "one")])
    replay = {"name": "replay", "filter_ratio": 0.5, "strata": 2, "run": str(tmp_path / "one")}
    jobs = [everything(world_folder, tmp_path / f"two{zero}", zero=zero) | {"selection": replay} for zero in STAGES]
    anew = everything(world_folder, tmp_path / "anew", zero=1)
    on_ranks(run_all, 2, [*jobs, anew])
    expected = losses(tmp_path / "one")
    assert len(expected) == STEPS
    for zero in STAGES:
        assert losses(tmp_path / f"two{zero}") == pytest.approx(expected, rel=1e-5, abs=1e-5)
    for one, two in zip(selected(tmp_path / "one"), selected(tmp_path / "anew"), strict=True):
        if one["near_ties"] or two["near_ties"]:
            break  # from here on the two runs may have learned from other samples
        assert (one["step"], one["ids"]) == (two["step"], two["ids"])

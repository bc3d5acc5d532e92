"""Selection in a run: what is kept, what is trained on it, and that neither depends on processes or interruptions."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from tercet.data_pipelines.open import open_loader
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.testing import RankFailed, on_ranks
from tercet.training import runner
from tests.training.test_data import metrics, state
from tests.training.test_resume import run_all
from tests.training.tiny import assert_same_run, losses, recipe, run, saved

RANDOM = {"name": "random", "filter_ratio": 0.5}
DRAWN, STRATA = 32, 2


def selected(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "selection.jsonl").read_text().splitlines()]


def kept_places(out: Path, drawn: int = DRAWN) -> list[list[int]]:
    """The places of the kept samples in the super-batch of each step, read from the digits of the mask."""
    bits = [bin(int("1" + line["mask"], 16))[3:] for line in selected(out)]
    assert all(set(one[drawn:]) <= {"0"} for one in bits)
    return [[place for place, bit in enumerate(one) if bit == "1"] for one in bits]


def cut(batch: Batch, places: list[int]) -> Batch:
    """The samples at these places of a rank's batch, row by row."""
    fields = {}
    for name, field in batch:
        rows = [row for row, item in enumerate(field.item.tolist()) if item in places]
        item = torch.tensor([places.index(int(field.item[row])) for row in rows], dtype=torch.int64)
        fields[name] = replace(field.rows(0, 0), item=item, values=field.values[rows], lengths=None)
        if field.lengths is not None:
            fields[name] = replace(fields[name], lengths=field.lengths[rows])
    return replace(batch, ids=batch.ids[places], groups=batch.groups[places], fields=fields)


class Given:
    """Batches of samples that somebody has kept before."""

    def __init__(self, loader: Any, steps: list[list[int]], world: World) -> None:
        self.plan, self.bad, self.epoch, self.sources = loader.plan, loader.bad, loader.epoch, loader.sources
        self.loader, self.steps, self.world = loader, steps, world

    def __iter__(self) -> Iterator[Batch]:
        share = DRAWN // self.world.size
        first = self.world.rank * share
        for places, batch in zip(self.steps, self.loader, strict=False):
            yield cut(batch, [place - first for place in places if first <= place < first + share])


def run_given(world: World, values: dict[str, Any], steps: list[list[int]]) -> None:
    """A run without a selection, on the batches that another run kept."""

    def open_given(data: Any, intakes: Any, batch_size: int, *rest: Any) -> Given:
        assert batch_size == 16
        return Given(open_loader(data, intakes, DRAWN, *rest), steps, world)

    with patch.object(runner, "open_loader", open_given):
        run(world, values)


@pytest.mark.parametrize(("processes", "changes"), [(1, {"zero": 0}), (2, {"zero": 2, "micro_batch": 3})])
def test_a_random_selection_trains_like_a_run_on_the_selected_samples(
    processes: int, changes: dict[str, Any], world_folder: Path, tmp_path: Path
) -> None:
    selecting, given = (recipe(world_folder, tmp_path / name, steps=7, **changes) for name in ("selecting", "given"))
    on_ranks(run_all, processes, [(selecting | {"selection": RANDOM}, None)])
    on_ranks(run_given, processes, given, kept_places(tmp_path / "selecting"))
    one, other = saved(tmp_path / "selecting"), saved(tmp_path / "given")
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert losses(tmp_path / "selecting") == losses(tmp_path / "given")


def test_each_stratum_keeps_its_share_on_any_number_of_processes(world_folder: Path, tmp_path: Path) -> None:
    """Also with several sources, after an interruption, and when a run moves from two processes to one."""
    train = {
        "scenes": {"source": str(world_folder / "train"), "weight": 3},
        "pairs": {"source": str(world_folder / "combinations"), "fields": ["image", "text"]},
    }
    data = {"train": train, "crop": None, "worker": "thread"}
    for processes in (1, 2):
        values = recipe(
            world_folder, tmp_path / str(processes), steps=6, selection=RANDOM, data=data, checkpoint={"every": 2}
        )
        on_ranks(run_all, processes, [(values, 3)])
        on_ranks(run_all, 1, [(values, None)])
    steps = selected(tmp_path / "1")
    assert steps == selected(tmp_path / "2")
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    places = kept_places(tmp_path / "1")
    for step in places:
        counts = np.bincount(np.array(step) // (DRAWN // STRATA), minlength=STRATA)
        assert counts.tolist() == [16 // STRATA] * STRATA
    assert len({tuple(step) for step in places}) == 6
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "2"), rel=1e-5)
    reached = state(tmp_path / "1")
    assert (reached["samples"], reached["drawn"]) == (6 * 16, 6 * DRAWN)
    assert reached["cursors"] == {"scenes": 6 * 24, "pairs": 6 * 8}
    last = metrics(tmp_path / "1")[-1]
    assert (last["samples"], last["drawn"], last["drawn/pairs"], last["epoch"]) == (96, 192, 48, 2)


def test_a_selection_is_replayed_on_another_number_of_processes(world_folder: Path, tmp_path: Path) -> None:
    def replaying(name: str, **changes: Any) -> dict[str, Any]:
        selection = {"name": "replay", "filter_ratio": 0.5, "run": str(tmp_path / "first")}
        return recipe(world_folder, tmp_path / name, **{"steps": 5, "selection": selection} | changes)

    on_ranks(run_all, 1, [(recipe(world_folder, tmp_path / "first", steps=5, selection=RANDOM), None)])
    with (tmp_path / "first" / "selection.jsonl").open("a") as lines:
        lines.write('{"step": 6, "near_t')  # by a run that was killed
    on_ranks(run_all, 2, [(replaying("again", zero=3, micro_batch=5), None)])
    first = (tmp_path / "first" / "selection.jsonl").read_text()
    assert first.startswith((tmp_path / "again" / "selection.jsonl").read_text())
    assert losses(tmp_path / "again") == pytest.approx(losses(tmp_path / "first"), rel=1e-5)
    for changes, message in (
        ({"seed": 1}, "step 1 of .*first drew other samples; set the same data, seed, batch_size and filter_ratio"),
        ({"batch_size": 8}, "step 1 of .*first drew other samples"),
        ({"steps": 6}, "first recorded no selection of step 6"),
    ):
        with pytest.raises(RankFailed, match=message):
            on_ranks(run_all, 1, [(replaying("refused", **changes), None)])


def test_one_stage_of_a_run_may_select_without_a_record(world_folder: Path, tmp_path: Path) -> None:
    """The samples that the second stage draws follow those of the first. A streamed run selects, too."""
    selecting = {"name": "selects", "steps": 4, "set": {"selection": RANDOM | {"record": False}}}
    values = recipe(world_folder, tmp_path / "run", stages=[{"name": "all", "steps": 3}, selecting])
    del values["steps"]
    data = {"train": str(world_folder / "train"), "crop": None, "mode": "stream", "window": 8}
    stream = recipe(world_folder, tmp_path / "stream", steps=4, selection=RANDOM, data=data)
    on_ranks(run_all, 1, [(values, None), (stream, None)])
    assert [len(set(line["ids"])) for line in selected(tmp_path / "stream")] == [16] * 4
    reached = state(tmp_path / "run")
    assert (reached["samples"], reached["drawn"]) == (7 * 16, 3 * 16 + 4 * DRAWN)
    assert reached["cursors"] == {"train": 3 * 16 + 4 * DRAWN}
    assert not (tmp_path / "run" / "selection.jsonl").exists()
    assert ["drawn" in line for line in metrics(tmp_path / "run")] == [False] * 3 + [True] * 4


@pytest.mark.parametrize(
    ("processes", "changes"), [(1, {}), pytest.param(2, {"balanced": False}, marks=pytest.mark.long)]
)
def test_pictures_that_are_decoded_twice_train_like_those_decoded_once(
    processes: int, changes: dict[str, Any], world_folder: Path, tmp_path: Path
) -> None:
    """A random choice does not look at the pictures, so a run that decodes small ones first trains on the same batches.
    It is interrupted once."""
    data = {
        "train": str(world_folder / "train"), "crop": (0.5, 1.0), "worker": "thread",
        "augment": {"image": {"flip": 0.5, "jitter": 0.5, "blur": 0.5}},
    }  # fmt: skip

    def values(name: str, **scoring: Any) -> dict[str, Any]:
        selection = {**RANDOM, **changes, "scoring": {"size": 16, **scoring}}
        return recipe(world_folder, tmp_path / name, steps=5, selection=selection, data=data, checkpoint={"every": 2})

    on_ranks(run_all, processes, [(values("once"), None), (values("twice", decode_twice=True), 3)])
    on_ranks(run_all, processes, [(values("twice", decode_twice=True), None)])
    assert_same_run(tmp_path / "once", tmp_path / "twice")

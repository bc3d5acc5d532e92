"""Cartography against numbers from whole matrices of logits, on other numbers of ranks, and by source."""

from collections import defaultdict
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from tercet.data_pipelines.columns import COLUMNS, Column, read_column
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.terms import Outcome, Terms
from tercet.models.term_config import TermConfig
from tercet.testing import on_ranks
from tercet.training.memory.cartography import Cartography
from tercet.training.memory.config import CartographyConfig
from tests.training.test_resume import run_all
from tests.training.tiny import recipe, run

TERM, SIDES = "image-audio", ("image", "audio")  # a fifth of the scenes have no sound

Observed = list[list[tuple[int, float]]]  # by step: each item's sample, and the probability of its positive


def columns(out: Path) -> dict[str, Column]:
    """By fingerprint."""
    folder = out / COLUMNS / "cartography"
    return {place.name: read_column(folder, place.name) for place in folder.iterdir()}


def observed(world: World, values: dict[str, Any]) -> Observed:
    """What a run's own batches and vectors come to, written out."""
    found: Observed = []
    call = Terms.__call__

    def log(self: Terms, batch: Batch, vectors: dict[str, Tensor], temperatures: Any, *rest: Any) -> Outcome:
        scale = float(temperatures[TERM][0])
        x, y = (dict(zip(batch.fields[one].item.tolist(), vectors[one].double(), strict=True)) for one in SIDES)
        both = sorted(x.keys() & y.keys())
        found.append([])
        for i in both:
            rivals = [j for j in both if j == i or batch.groups[i] != batch.groups[j]]
            forward = np.array([scale * float(x[i] @ y[j]) for j in rivals])
            backward = np.array([scale * float(y[i] @ x[j]) for j in rivals])
            at = rivals.index(i)
            likely = [float(np.exp(logits[at]) / np.exp(logits).sum()) for logits in (forward, backward)]
            found[-1].append((int(batch.ids[i]), sum(likely) / 2))
        return call(self, batch, vectors, temperatures, *rest)

    with patch.object(Terms, "__call__", log):
        run(world, values)
    return found


def read_at_the_end(world: World, values: dict[str, Any]) -> dict[str, Tensor]:
    """The values of all 96 scenes, as an objective would read them."""
    read: list[dict[str, Tensor]] = []
    finish = Cartography.finish

    def also_read(self: Cartography, folder: Path) -> None:
        read.append(self.read(torch.arange(96)))
        finish(self, folder)

    with patch.object(Cartography, "finish", also_read):
        run(world, values)
    return read[0]


def assert_is(column: Column, expected: Observed) -> None:
    by_sample: dict[int, list[float]] = defaultdict(list)
    for id, probability in chain.from_iterable(expected):
        by_sample[id].append(probability)
    assert column.id_n.tolist() == sorted(by_sample)
    listed = [by_sample[id] for id in sorted(by_sample)]
    assert column.values["count"].tolist() == [len(one) for one in listed]
    assert max(map(len, listed)) > 2
    np.testing.assert_allclose(column.values["confidence"], [np.mean(one) for one in listed], rtol=1e-4)
    np.testing.assert_allclose(column.values["variability"], [np.std(one) for one in listed], rtol=1e-3, atol=1e-5)


def test_numbers_equal_those_of_whole_matrices_on_any_number_of_ranks(world_folder: Path, tmp_path: Path) -> None:
    """7 steps on two ranks at stage 3, 6 on one at stage 0 and 7 on two at stage 1 come to the same."""
    cartography = {"memories": {"cartography": {"term": TERM}}}
    whole = recipe(world_folder, tmp_path / "whole", zero=0, **cartography)
    (expected,) = on_ranks(observed, 1, whole)
    (column,) = columns(tmp_path / "whole").values()
    assert_is(column, expected)
    moving = recipe(world_folder, tmp_path / "moving", checkpoint={"every": 1}, **cartography)
    for world, zero, stop in ((2, 3, 7), (1, 0, 13), (2, 1, None)):
        on_ranks(run_all, world, [(moving | {"zero": zero}, stop)])
    (moved,) = columns(tmp_path / "moving").values()
    assert_is(moved, expected)


def test_a_sample_that_is_twice_in_a_batch_is_observed_twice(world_folder: Path, tmp_path: Path) -> None:
    """24 scenes in batches of 20, most of which hold the end of one epoch and the beginning of the next."""
    data = {"train": str(world_folder / "train" / "000000.tar"), "crop": None, "worker": "thread"}
    values = recipe(world_folder, tmp_path, data=data, batch_size=20, steps=6, memories={"cartography": {"term": TERM}})
    (steps,) = on_ranks(observed, 1, values)
    assert any(len({id for id, _ in step}) < len(step) for step in steps), "no batch held a sample twice"
    (column,) = columns(tmp_path).values()
    assert_is(column, steps)


def test_each_objective_defines_the_probability_of_a_pair(world_folder: Path, tmp_path: Path) -> None:
    """The sigmoid loss knows no rivals: its probability is that of the pair alone, which starts low."""
    values = recipe(
        world_folder, tmp_path, objective="sigmoid", steps=2, memories={"cartography": {"term": "image-text"}}
    )
    ranks = on_ranks(read_at_the_end, 2, values)
    (column,) = columns(tmp_path).values()
    for found in ranks:
        seen = found["count"] > 0
        assert seen.nonzero()[:, 0].tolist() == column.id_n.tolist()
        for name, value in column.values.items():
            assert found[name][seen].tolist() == value.tolist()
            assert not found[name][~seen].any()
    assert column.values["count"].tolist() == [1] * 32
    assert ((column.values["confidence"] > 0) & (column.values["confidence"] < 0.5)).all()
    assert (column.values["variability"] == 0).all()


def test_a_stage_that_returns_to_sources_continues_their_numbers(world_folder: Path, tmp_path: Path) -> None:
    scenes, combinations = str(world_folder / "train"), str(world_folder / "combinations")
    stages: list[dict[str, Any]] = [
        {"name": "scenes", "steps": 3},
        {"name": "combinations", "steps": 4, "set": {"data.train": combinations}},
        {"name": "both", "steps": 2, "set": {"data.train": {"train": combinations, "others": scenes}}},
    ]
    values = recipe(
        world_folder, tmp_path / "run", stages=stages, memories={"cartography": {}}, checkpoint={"every": 2}
    )
    del values["steps"]
    for world, stop in ((2, 5), (1, None)):
        on_ranks(run_all, world, [(values, stop)])
    found = sorted(columns(tmp_path / "run").values(), key=lambda column: int(column.id_n.max()))
    assert [int(column.values["count"].sum()) for column in found] == [4 * 16 + 2 * 8, 3 * 16 + 2 * 8]
    assert found[0].id_n.max() == 23, "ids of the smaller source count from its own first sample"


def test_ids_of_a_source_with_a_list_are_those_of_the_source(world_folder: Path, tmp_path: Path) -> None:
    """The last 20 scenes, each twice an epoch, and then the combinations; an epoch of the list has 40 samples."""
    (tmp_path / "list.csv").write_text("id,count\n" + "".join(f"{id},2\n" for id in range(76, 96)))
    train = {
        "scenes": {"source": str(world_folder / "train"), "list": str(tmp_path / "list.csv")},
        "combinations": {"source": str(world_folder / "combinations")},
    }
    data = {"train": train, "crop": None, "worker": "thread"}
    values = recipe(
        world_folder, tmp_path / "run", data=data, steps=5, memories={"cartography": {"term": "image-text"}}
    )
    on_ranks(run_all, 2, [(values, None)])
    scenes, combinations = sorted(columns(tmp_path / "run").values(), key=lambda column: -int(column.id_n.max()))
    assert scenes.id_n.tolist() == list(range(76, 96))
    assert scenes.values["count"].tolist() == [2] * 20
    assert combinations.id_n.max() < 24
    assert combinations.values["count"].sum() == 40


def test_a_term_without_probabilities_is_refused() -> None:
    term = TermConfig.model_validate({"between": ["image", "text"], "objective": "align_uniform"})
    context: Any = SimpleNamespace(config=SimpleNamespace(terms=[term]))
    with pytest.raises(UserError, match="`align_uniform` of the term `image-text` has none; set `term` of the memory"):
        CartographyConfig(kind="cartography").build(context)

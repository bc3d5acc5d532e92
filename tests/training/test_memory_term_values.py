"""The values by sample of a term: those of a run against plain dictionaries, on other numbers of ranks, and resumed."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from tercet.configs.base import build
from tercet.data_pipelines.columns import COLUMNS, Column, read_column
from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.sources.opened import OpenedSources
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.terms import Outcome, Terms
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.loop.step import Step
from tercet.training.memory.term_values import TermValues
from tercet.training.preflight.checks import ready
from tests.models.test_losses_isogclr import SIDES, Naive
from tests.training.test_resume import run_all
from tests.training.tiny import losses, recipe, run, saved

OPTIONS: dict[str, Any] = {"tau": 0.1, "rho": 2.0, "eta": 0.01, "momentum": 0.5}
NAME = "image.local-text"  # a hyphen and a dot


def contrasting(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """24 scenes in batches of 20, most of which hold the end of one epoch and the beginning of the next."""
    term = {"name": NAME, "between": list(SIDES), "objective": {"name": "isogclr", **OPTIONS}}
    source = {"train": str(data / "train" / "000000.tar"), "crop": None, "worker": "thread"}
    values = recipe(data, out, terms=[term], data=source, batch_size=20, **{"steps": 6, **changes})
    del values["pairs"]
    return values


def naively(world: World, values: dict[str, Any]) -> tuple[Naive, list[float], bool]:
    """What a run's own batches and vectors come to, its losses, and whether a batch had a sample twice."""
    naive, found, twice, call = Naive(**OPTIONS), [], False, Terms.__call__

    def follow(self: Terms, batch: Batch, vectors: dict[str, Tensor], *rest: Any) -> Outcome:
        nonlocal twice
        ids = batch.ids.tolist()
        twice |= len(set(ids)) < len(ids)
        x, y = (vectors[side].double() for side in SIDES)
        found.append(float(naive.step(ids, batch.groups.tolist(), x @ y.T)))
        return call(self, batch, vectors, *rest)

    with patch.object(Terms, "__call__", follow):
        run(world, values)
    return naive, found, twice


def column(out: Path) -> Column:
    folder = out / COLUMNS / f"term-{NAME}"
    (place,) = folder.iterdir()
    return read_column(folder, place.name)


def assert_is(found: Column, naive: Naive) -> None:
    assert len(found.values) == 6
    for name, values in found.values.items():
        side, of = name.split(".")
        kept = naive.kept[side][of]
        assert found.id_n.tolist() == sorted(kept)
        np.testing.assert_allclose(values, [kept[id] for id in sorted(kept)], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_run_keeps_the_values_of_loops_on_any_number_of_ranks(world_folder: Path, tmp_path: Path) -> None:
    """Two steps on two ranks at stage 3, two on one at stage 0 and two on two at stage 1 come to the same."""
    ((naive, expected, twice),) = on_ranks(naively, 1, contrasting(world_folder, tmp_path / "whole", zero=0))
    assert twice, "no batch held a sample twice"
    assert losses(tmp_path / "whole") == pytest.approx(expected, rel=1e-4)
    assert len(set(naive.kept["text"]["temperature"].values())) == 24
    assert_is(column(tmp_path / "whole"), naive)
    moving = contrasting(world_folder, tmp_path / "moving", checkpoint={"every": 1})
    for world, zero, stop in ((2, 3, 2), (1, 0, 4), (2, 1, None)):
        on_ranks(run_all, world, [(moving | {"zero": zero}, stop)])
    assert losses(tmp_path / "moving") == pytest.approx(expected, rel=1e-4)
    assert_is(column(tmp_path / "moving"), naive)


@pytest.mark.parametrize("world", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_resumed_run_is_bit_equal(world_folder: Path, tmp_path: Path, world: int) -> None:
    whole = contrasting(world_folder, tmp_path / "whole")
    parts = contrasting(world_folder, tmp_path / "parts", checkpoint={"every": 2})
    on_ranks(run_all, world, [(whole, None), (parts, 3), (parts, None)])
    one, two = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert sum(name.startswith(f"memory/term-{NAME}/") for name in one) == 1 + 6 * world
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def with_a_skipped_step(world: World, values: dict[str, Any]) -> list[dict[str, Tensor]]:
    """All values after each step. The loss of the second step is finite, and its gradient is not."""
    found: list[dict[str, Tensor]] = []
    call, surrogate = Step.__call__, Step._surrogate

    def note(self: Step, batch: Batch, step: int) -> Any:
        taken = call(self, batch, step)
        (memory,) = (one for one in self.memories.by_name.values() if isinstance(one, TermValues))
        found.append(memory.read(torch.arange(24)))
        return taken

    def spoil(self: Step, *parts: Any) -> Tensor:
        return surrogate(self, *parts) * (torch.nan if len(found) == 1 else 1.0)

    with patch.object(Step, "__call__", note), patch.object(Step, "_surrogate", spoil):
        run(world, values)
    return found


def test_a_skipped_step_changes_no_value(world_folder: Path, tmp_path: Path) -> None:
    (states,) = on_ranks(with_a_skipped_step, 1, contrasting(world_folder, tmp_path, steps=3))
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name
        assert not torch.equal(states[2][name], value), name


def test_streamed_data_are_refused(world_folder: Path, tmp_path: Path) -> None:
    values = contrasting(world_folder, tmp_path)
    values["data"] = {"train": str(world_folder / "train"), "mode": "stream"}
    config = build(RunConfig, values, lambda key: "recipe")
    with pytest.raises(
        UserError, match=r"terms.image.local-text: `isogclr` keeps values .* set data.mode=index"
    ) as caught:
        ready(config, OpenedSources())
    assert "\n" not in str(caught.value)
    ready(build(RunConfig, contrasting(world_folder, tmp_path), lambda key: "recipe"), OpenedSources())


def test_a_name_that_cannot_be_that_of_a_file_is_refused(world_folder: Path, tmp_path: Path) -> None:
    values = contrasting(world_folder, tmp_path)
    for name in ("../x", "a/b", "-a", "a\n"):
        values["terms"][0]["name"] = name
        with pytest.raises(UserError, match="is not a valid name: use letters, digits, spaces and the signs"):
            build(RunConfig, values, lambda key: "recipe")

"""The rule `confident` against a naive loop, on one and two processes, and in a run that also has soft labels."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from tercet.benchmarks.gradients.case import ITEMS, Case, make_batch
from tercet.benchmarks.gradients.ours import GradientCase
from tercet.configs.base import build
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import gather
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.loop.step import Step
from tercet.training.memory.memories import Memories
from tercet.training.memory.memory import Memory
from tercet.training.preflight.checks import dry_run
from tercet.training.selection.confident import ConfidentSelection
from tercet.training.selection.rule import SuperBatch
from tercet.training.selection.strata import Strata
from tests.training.test_memory_teacher import exported
from tests.training.test_selection import selected
from tests.training.tiny import MODEL, losses, recipe, run

SURE, TEMPERATURE = 0.3, 0.2


def helper_vectors(field: str) -> torch.Tensor:
    """Of every item: pairs of the helper are alike, but not all of them."""
    drawn = torch.Generator().manual_seed(len(field))
    shared = torch.randn(ITEMS, 6, generator=torch.Generator().manual_seed(0))
    return normalize(shared + 0.7 * torch.randn(ITEMS, 6, generator=drawn), dim=1)


class Helper(Memory):
    """A teacher of fixed vectors."""

    def __init__(self, world: World) -> None:
        self.world = world

    def frozen(self, batch: Batch) -> dict[str, Rows]:
        rows = {name: helper_vectors(name)[batch.ids[batch.fields[name].item]] for name in ("image", "text")}
        return {name: gather(batch, name, z_nd, 1, self.world) for name, z_nd in rows.items()}


def scores_of(world: World) -> tuple[list[float], list[float]]:
    case = Case(world.size, 0)
    bench = GradientCase(world, case)
    batch = make_batch(bench.engine.module, case, "rows missing", world)  # type: ignore[arg-type]
    step = Step(bench.engine, bench.terms, world, 0, None, Memories({"helper": Helper(world)}))
    drawn = SuperBatch(batch, 0, Strata(2 // world.size, 6), step)
    rule = ConfidentSelection(helper="helper", confidence=SURE, temperature=TEMPERATURE)
    return rule.scores(drawn).tolist(), drawn.losses().tolist()


def naive_certainty() -> list[float]:
    """Of each item, from the rows of pictures and captions that exist in the layout, in plain Python."""
    image, text = (helper_vectors(name).double() for name in ("image", "text"))
    have = {name: set(Case(1, 0).items(name, "rows missing").tolist()) for name in ("image", "text")}
    found = []
    for i in range(ITEMS):
        total = 0.0
        for name, x, y in (("text", image, text), ("image", text, image)):
            keys = [j for j in have[name] if j == i or j % 20 != i % 20]
            raised = {j: math.exp(float(x[i] @ y[j]) / TEMPERATURE) for j in keys}
            total += raised.get(i, 0.0) / sum(raised.values()) / 2
        found.append(total if i in have["image"] and i in have["text"] else 0.0)
    return found


def test_scores_are_those_of_a_naive_loop_on_any_number_of_processes() -> None:
    sure = naive_certainty()
    assert sum(one >= SURE for one in sure) in range(5, ITEMS - 5)
    for ranks in ([scores_of(World())], on_ranks(scores_of, 2)):
        scores, loss = ([value for rank in ranks for value in rank[place]] for place in (0, 1))
        expected = [one if p >= SURE else p - 100 for one, p in zip(loss, sure, strict=True)]
        assert scores == pytest.approx(expected, rel=1e-6)


def test_a_run_selects_by_a_helper_that_also_gives_soft_labels(world_folder: Path, tmp_path: Path) -> None:
    helper = exported(tmp_path / "helper")
    term: dict[str, Any] = {"between": ["image", "text"], "objective": "soft", "references": {"teacher": "helper"}}
    values = recipe(
        world_folder, tmp_path / "run", steps=2, model={**MODEL, "audio": None}, terms=[term],
        memories={"helper": {"kind": "teacher", "model": str(helper)}},
        selection={"name": "confident", "helper": "helper", "confidence": 0.1, "filter_ratio": 0.5},
    )  # fmt: skip
    del values["pairs"]
    run(World(), values)
    assert [len(line["ids"]) for line in selected(tmp_path / "run")] == [16, 16]
    assert all(map(math.isfinite, losses(tmp_path / "run")))
    dry_run(build(RunConfig, values | {"out": str(tmp_path / "again")}, lambda key: "recipe"))
    values["selection"]["helper"] = "other"
    message = r"no memory `other` embeds both fields of a term\. Add memories=\{other: \{kind"
    with pytest.raises(UserError, match=message):
        dry_run(build(RunConfig, values | {"out": str(tmp_path / "other")}, lambda key: "recipe"))
    with pytest.raises(UserError, match=message):
        run(World(), values | {"out": str(tmp_path / "other")})


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match=r"selection\.confidence is 2; give a number between 0 and 1"):
        ConfidentSelection(helper="helper", confidence=2)
    with pytest.raises(UserError, match=r"selection\.temperature is 0; give a number above 0"):
        ConfidentSelection(helper="helper", temperature=0)

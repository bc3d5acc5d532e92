"""Selection by the learner's loss, against loops over whole matrices in double precision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tercet.benchmarks.gradients.case import ITEMS, MICRO_BATCH, Case, make_batch
from tercet.benchmarks.gradients.ours import GradientCase
from tercet.benchmarks.gradients.truth import model_of
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.testing import on_ranks
from tercet.training.loop.step import Step
from tercet.training.selection.config import SelectionConfig
from tercet.training.selection.rule import SuperBatch
from tercet.training.selection.select import Selection
from tercet.training.selection.strata import Strata
from tests.training.test_resume import run_all
from tests.training.test_selection import kept_places, selected
from tests.training.tiny import losses, recipe, saved

STRATA, LONE = 4, [6, 16]
Found = tuple[list[float], dict[str, list[int]]]  # the losses of a rank's items, and the ids that each way keeps


def drawn_batch(model: Any, case: Case, world: World) -> Batch:
    """Rows are missing, and two items have nothing but a picture, which is in no term."""
    batch = make_batch(model, case, "rows missing", world)
    fields = dict(batch)
    for name in ("text", "audio"):
        field = fields[name]
        stays = ~torch.isin(batch.ids[field.item], torch.tensor(LONE))
        lengths = None if field.lengths is None else field.lengths[stays]
        fields[name] = replace(field, values=field.values[stays], item=field.item[stays], lengths=lengths)
    return replace(batch, fields=fields)


def find(world: World, zero: int, micro_batch: int | None, objective: str, folder: Path) -> Found:
    case = Case(world.size, zero, objective)
    bench = GradientCase(world, case)
    batch = drawn_batch(bench.engine.module, case, world)
    step = Step(bench.engine, bench.terms, world, 0, micro_batch)
    drawn = SuperBatch(batch, 0, Strata(STRATA // world.size, ITEMS // STRATA // 2), step)
    kept = {}
    for keep in ("hardest", "easiest"):
        config = SelectionConfig(name="loss", filter_ratio=0.5, strata=STRATA, keep=keep)  # type: ignore[call-arg]
        kept[keep] = Selection(config, ITEMS // 2, step, folder)(batch, 0).batch.ids.tolist()
    return drawn.losses().tolist(), kept


def find_all(world: World, ways: list[tuple[Any, ...]], folder: Path) -> list[Found]:
    return [find(world, *way, folder) for way in ways]


def naive_losses(objective: str) -> Tensor:
    """Of every item: the mean, weighted by term, of its rows as anchors of both directions."""
    case = Case(1, 0, objective)
    model = model_of(case, torch.device("cpu")).eval()
    batch = drawn_batch(model, case, World())
    with torch.no_grad():
        vectors, temperatures = model(batch)
    total, weights = torch.zeros(ITEMS, dtype=torch.float64), torch.zeros(ITEMS, dtype=torch.float64)
    for term in case.config().terms:
        scale, bias = temperatures[term.name]
        one, other = (
            {int(i): row.double() for i, row in zip(batch.fields[n].item, vectors[n], strict=True)}
            for n in term.between
        )
        both = sorted(one.keys() & other.keys())
        for i in both:
            for x, y in ((one, other), (other, one)):
                keys = [j for j in both if j == i or batch.groups[j] != batch.groups[i]]
                logits = {j: x[i] @ y[j] * scale.double() for j in keys}
                total[i] += term.weight / 2 * anchor_loss(i, logits, None if bias is None else bias.double())
            weights[i] += term.weight
    return total / weights


def anchor_loss(own: int, logits: dict[int, Tensor], bias: Tensor | None) -> float:
    if bias is None:
        return float(torch.stack(list(logits.values())).logsumexp(0) - logits[own])
    signs = {j: 1 if j == own else -1 for j in logits}
    return float(sum(-torch.nn.functional.logsigmoid(signs[j] * (logits[j] + bias)) for j in logits))


def best(score: list[float], sign: int) -> list[int]:
    """The first half of each stratum when its items are ranked; an item without a loss is last."""
    kept = []
    for first in range(0, ITEMS, ITEMS // STRATA):
        items = range(first, first + ITEMS // STRATA)
        ranked = sorted(items, key=lambda i: -sign * score[i] if score[i] == score[i] else np.inf)
        kept += sorted(ranked[: len(items) // 2])
    return kept


@pytest.mark.parametrize(
    ("processes", "ways"),
    [
        (1, [(0, None, "infonce"), (0, MICRO_BATCH, "sigmoid")]),
        (2, [(0, MICRO_BATCH, "infonce"), (2, None, "sigmoid"), (3, None, "infonce"), (3, MICRO_BATCH, "sigmoid")]),
    ],
)
def test_the_kept_samples_equal_those_of_a_naive_computation(
    processes: int, ways: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    ranks = on_ranks(find_all, processes, ways, tmp_path)
    for number, (_, _, objective) in enumerate(ways):
        truth = naive_losses(objective)
        found = torch.tensor([loss for rank in ranks for loss in rank[number][0]], dtype=torch.float64)
        assert torch.nonzero(truth.isnan()).flatten().tolist() == LONE
        torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-6, equal_nan=True)
        assert float(truth[~truth.isnan()].sort().values.diff().min()) > 1e-4, "too close to be told apart"
        for keep, sign in (("hardest", 1), ("easiest", -1)):
            assert [id for rank in ranks for id in rank[number][1][keep]] == best(truth.tolist(), sign), keep


def selecting(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    selection = {"name": "loss", "filter_ratio": 0.75, "strata": 2}
    return recipe(data, out, steps=5, selection=selection, **changes)


@pytest.mark.long
def test_every_zero_stage_and_number_of_processes_keeps_the_same_samples(world_folder: Path, tmp_path: Path) -> None:
    """At the first step, when all have the same weights; then a replay keeps what one process kept."""
    on_ranks(run_all, 1, [(selecting(world_folder, tmp_path / "alone", zero=0), None)])
    ways = {f"zero{zero}": {"zero": zero, "micro_batch": rows} for zero, rows in ((0, 5), (1, None), (2, 7), (3, None))}
    replay = {"name": "replay", "filter_ratio": 0.75, "strata": 2, "run": str(tmp_path / "alone")}
    jobs = [(selecting(world_folder, tmp_path / name, **way), None) for name, way in ways.items()]
    jobs.append((selecting(world_folder, tmp_path / "replay", zero=2) | {"selection": replay}, None))
    on_ranks(run_all, 2, jobs)
    alone = selected(tmp_path / "alone")
    for name in ways:
        first = selected(tmp_path / name)[0]
        swapped = set(first["ids"]) ^ set(alone[0]["ids"])
        assert len(swapped) <= 2 * alone[0]["near_ties"], name
        assert len(first["ids"]) == 16
        assert losses(tmp_path / name)[0] == pytest.approx(losses(tmp_path / "alone")[0], rel=1e-5) or swapped
    assert [line["ids"] for line in selected(tmp_path / "replay")] == [line["ids"] for line in alone]
    assert losses(tmp_path / "replay") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)


@pytest.mark.parametrize(
    ("processes", "changes"),
    [(1, {"zero": 0}), pytest.param(2, {"zero": 3, "micro_batch": 5}, marks=pytest.mark.long)],
)
def test_a_resumed_run_keeps_the_same_samples(
    processes: int, changes: dict[str, Any], world_folder: Path, tmp_path: Path
) -> None:
    whole = selecting(world_folder, tmp_path / "whole", **changes)
    parts = selecting(world_folder, tmp_path / "parts", checkpoint={"every": 2}, **changes)
    on_ranks(run_all, processes, [(whole, None), (parts, 3), (parts, None)])
    assert selected(tmp_path / "whole") == selected(tmp_path / "parts")
    one, other = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert len({tuple(places) for places in kept_places(tmp_path / "whole", 64)}) == 5

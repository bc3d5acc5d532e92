"""Rules beyond those that come along: what strata keep for them, joint rules, and rules that are wrong."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.testing import RankFailed, on_ranks
from tercet.training.selection.baselines import RandomSelection
from tercet.training.selection.rule import SelectionRule, SuperBatch, selection_rule
from tercet.training.selection.strata import Kept, Strata
from tests.training.test_selection import selected
from tests.training.tiny import recipe, run

scores = st.sampled_from([1.0, 1.0 + 4e-6, 1.0 + 1e-4, 0.0, -1.0, float("nan")])


@given(score=st.lists(scores, min_size=24, max_size=24), count=st.sampled_from([1, 2, 3]), data=st.data())
def test_each_stratum_keeps_the_samples_with_its_highest_scores(
    score: list[float], count: int, data: st.DataObject
) -> None:
    size = 24 // count
    take = data.draw(st.integers(1, size))
    found = Strata(count, take).best(torch.tensor(score, dtype=torch.float64))
    places, ties = [], 0
    for first in range(0, 24, size):
        ranked = sorted(range(first, first + size), key=lambda place: -value(score[place]))
        places += sorted(ranked[:take])
        if take < size:
            threshold = (value(score[ranked[take - 1]]) + value(score[ranked[take]])) / 2
            near = [abs(value(score[place]) - threshold) <= 1e-5 * abs(threshold) for place in ranked]
            ties += sum(near[:take]) * sum(near[take:])
    assert found.places.tolist() == places
    assert found.near_ties == ties


def value(score: float) -> float:
    return score if score == score else -float("inf")


def test_random_scores_are_never_near_ties() -> None:
    """Of many random numbers, those beside a threshold are closer than the rounding errors of losses."""
    ids = torch.arange(1_000_000)
    learner: Any = SimpleNamespace(seed=0, world=World())
    drawn = SuperBatch(Batch(ids, ids, {}), 0, Strata(1, 500_000), learner)
    rule = RandomSelection()
    assert drawn.strata.best(rule.scores(drawn)).near_ties > 0
    assert rule.choose(drawn).near_ties == 0
    assert torch.equal(rule.choose(drawn).places, drawn.strata.best(rule.scores(drawn)).places)


@selection_rule("spread")
class Spread(SelectionRule):
    """A joint rule: in each of `chunks` rounds, those whose pictures are least like all that were chosen before."""

    chunks: int = 4

    def choose(self, drawn: SuperBatch) -> Kept:
        world, strata = drawn.learner.world, drawn.strata
        vectors, _ = drawn.learner.embed(drawn.batch)
        z_nd = vectors["image"]  # of which every sample here has one
        taken_n = torch.zeros(len(z_nd), dtype=torch.bool)
        likeness_n = torch.zeros(len(z_nd), dtype=torch.float64)
        for _ in range(self.chunks):
            free_n = torch.where(taken_n, -torch.inf, -likeness_n)
            taken_n[replace(strata, kept=strata.kept // self.chunks).best(free_n).places] = True
            taken_N, z_Nd = world.gather(taken_n), world.gather(z_nd)
            likeness_n = (z_nd.double() @ z_Nd[taken_N].double().T).max(dim=1).values
        return Kept(torch.nonzero(taken_n).flatten())


@selection_rule("first")
class First(SelectionRule):
    """Wrong: keeps the first samples of the whole super-batch, not of each stratum, or scores too few."""

    few: bool = False

    def choose(self, drawn: SuperBatch) -> Kept:
        return super().choose(drawn) if self.few else Kept(torch.arange(sum(place < 16 for place in drawn.places)))

    def scores(self, drawn: SuperBatch) -> Tensor:
        return torch.zeros(len(drawn.batch) // 2)


def choosing(data: Path, out: Path, **selection: Any) -> dict[str, Any]:
    values = recipe(data, out, steps=2, pairs={"image-text": 1.0})
    return values | {"selection": {"filter_ratio": 0.5, **selection}}


def choose(world: World, values: dict[str, Any]) -> None:
    """In a process that imports this module, and so its rules."""
    run(world, values)


def test_a_rule_over_the_whole_batch_keeps_the_same_samples_on_one_and_two_processes(
    world_folder: Path, tmp_path: Path
) -> None:
    for processes in (1, 2):
        values = choosing(world_folder, tmp_path / str(processes), name="spread")
        on_ranks(choose, processes, values | {"zero": processes})
    assert selected(tmp_path / "1")[0] == selected(tmp_path / "2")[0]
    assert len({tuple(line["ids"]) for line in selected(tmp_path / "1")}) == 2


@pytest.mark.parametrize(
    ("processes", "few", "message"),
    [
        (2, False, "the selection rule `first` kept (16|0) samples of a process, not 8"),
        (1, True, r"First.scores returned shape \[16\]; return 32 scores"),
    ],
)
def test_a_rule_that_keeps_a_wrong_number_of_samples_is_refused(
    processes: int, few: bool, message: str, world_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RankFailed, match=message):
        on_ranks(choose, processes, choosing(world_folder, tmp_path / "run", name="first", few=few))

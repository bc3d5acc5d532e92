"""Gradients over several ranks against one process on the whole batch; and wrong steps, which the measure must tell."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tercet.benchmarks.gradients import LIMIT, run, worst_by_name
from tercet.benchmarks.gradients.case import Case, exists
from tercet.benchmarks.gradients.ours import measure
from tercet.benchmarks.gradients.truth import errors, worst
from tercet.benchmarks.table import BenchRow, judge
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.testing import on_ranks
from tercet.training.step import Step, Temperatures


class ForgetsTheMean(Step):
    """Hands over the true gradient, although ranks will average it."""

    def _surrogate(self, *parts: object) -> Tensor:
        return super()._surrogate(*parts) / self.world.size  # type: ignore[arg-type]


class ForgetsTheMasks(Step):
    """Draws new dropout masks when a chunk runs again."""

    def _run(self, batch: Batch, step: int, index: int) -> tuple[dict[str, Tensor], Temperatures]:
        return self.engine(batch)


class ForgetsTheFirstChunks(Step):
    """Back-propagates the last chunk only, as accumulation without a boundary does in some stages."""

    def _surrogate(self, *parts: object) -> Tensor:
        whole = super()._surrogate(*parts)  # type: ignore[arg-type]
        return whole if self.micro_batch is None or parts[-1] is None else 0.0 * whole


RIGHT = [(Case(2, zero, clip=0.1), Step) for zero in range(4)] + [(Case(2, 2, setting="dropout"), Step)]
WRONG = [
    (Case(2, 1, setting="frozen BatchNorm"), ForgetsTheMean),
    (Case(2, 3, setting="dropout"), ForgetsTheMasks),
    (Case(2, 2, "sigmoid", setting="image-text"), ForgetsTheFirstChunks),
]


def measure_with(world: World, cases: Sequence[tuple[Case, type[Step]]]) -> list[list[BenchRow]]:
    return [list(measure(world, case, step)) for case, step in cases]


@pytest.fixture(scope="module")
def two_ranks() -> list[list[BenchRow]]:
    return on_ranks(measure_with, 2, [*RIGHT, *WRONG])[0]


@pytest.mark.parametrize("index", range(len(RIGHT)))
def test_gradients_on_two_ranks(two_ranks: list[list[BenchRow]], index: int) -> None:
    found = {row.name: (row.ours, row.beyond) for row in two_ranks[index]}
    assert len(found) == (7 if index < 4 else 2)
    assert all(0 < error <= LIMIT for error, _ in found.values() if error is not None), found


@pytest.mark.parametrize("index", range(len(WRONG)), ids=[step.__name__ for _, step in WRONG])
def test_a_wrong_step_is_told(two_ranks: list[list[BenchRow]], index: int) -> None:
    for row in two_ranks[len(RIGHT) + index]:
        assert row.ours is not None
        assert row.ours > 1e-2, row.name


def test_gradients_on_four_ranks() -> None:
    rows = on_ranks(measure_with, 4, [(Case(4, 2, "sigmoid"), Step)])[0][0]
    assert all(0 < row.ours <= LIMIT for row in rows), rows


def test_one_absent_leaves_whole_ranks_without_sound() -> None:
    for ranks in (2, 4):
        shares = exists("audio", "one absent", ranks).chunk(ranks)
        assert [bool(share.any()) for share in shares] == [True] * (ranks - 1) + [False]
    assert exists("audio", "one absent", 1).equal(exists("audio", "one absent", 4))


def test_error_is_relative_to_the_tensor_and_floored_by_the_whole() -> None:
    true = {"large": torch.tensor([3.0, 4.0]), "small": torch.tensor([1e-6])}
    found = {"large": torch.tensor([3.0, 4.5]), "small": torch.tensor([3e-6])}
    values = {error.tensor: error.value for error in errors(found, true)}
    assert values == {"large": pytest.approx(0.1), "small": pytest.approx(2e-6 / 5e-3)}


def test_what_is_not_a_number_is_the_worst_of_all() -> None:
    true = {name: torch.ones(2) for name in "abc"}
    found = {**true, "b": torch.tensor([1.0, float("nan")]), "c": torch.zeros(2)}
    error = worst(errors(found, true))
    assert error.tensor == "b"
    rows = worst_by_name(
        [BenchRow("tercet x", ours=error.value), BenchRow("tercet x", ours=1e9), BenchRow("tercet y", ours=0.0)]
    )
    assert [row.holds for row in judge("gradients", rows).rows if row.name.startswith("tercet")] == [False, True]


@pytest.mark.long
def test_every_combination() -> None:
    outcome = judge("gradients", run([]))
    assert outcome.holds, [row for row in outcome.rows if not row.holds]
    # 3 worlds × 4 stages × (2 ways × 2 objectives × 3 layouts + 2 updates), dropout in 2 worlds, BatchNorm in 3
    exact = [row for row in outcome.rows if row.name.startswith("tercet")]
    assert len(exact) == 3 * 4 * 14 + 2 * 4 * 2 + 3 * 2
    default = {row.name: row.peer for row in outcome.rows if row.peer is not None and "default" in row.name}
    assert default["beside ClipLoss W4 towers, default"] == pytest.approx(0.75, rel=1e-3)  # 1/W of the true gradient

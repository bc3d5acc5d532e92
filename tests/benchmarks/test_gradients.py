"""Gradients over several ranks against one process on the whole batch; and wrong steps and objectives, which the
measure must tell."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tercet.benchmarks.gradients import LIMIT, cases, run, worst_by_name
from tercet.benchmarks.gradients.case import Case, exists
from tercet.benchmarks.gradients.naive_terms import NAIVE
from tercet.benchmarks.gradients.ours import measure
from tercet.benchmarks.gradients.truth import errors, naive, own_gradients, truth_of, whole_matrix, worst
from tercet.benchmarks.table import BenchRow, judge
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.errors import UserError
from tercet.models.losses import Objective, objective
from tercet.models.losses.anchors import Anchors
from tercet.models.losses.objective import objective_class, objective_names
from tercet.models.losses.problem import Problem
from tercet.models.losses.rows import Rows
from tercet.testing import on_ranks
from tercet.testing.examples import build_example
from tercet.training.loop.step import Step, Temperatures


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


RIGHT = [(Case(2, zero, clip=0.1), Step) for zero in (0, 3)] + [(Case(2, 2, setting="dropout"), Step)]
OTHERS = ["symile"]  # three fields
# Values of samples, rows with numbers, tokens, those of a teacher, references, an optional reference, extra negatives.
SLOWER = ["isogclr", "listwise", "sequence", "masked_prediction", "soft", "infonce_guide", "infonce_own_negatives"]


@objective("changes_with_the_ranks")
class ChangesWithTheRanks(Objective):
    """InfoNCE times the number of ranks."""

    def row_weight(self, row: Anchors) -> Tensor:
        return torch.full_like(row.positive, len(row.rows) / len(row.rows.z_Ad))


WRONG = [
    (Case(2, 1, setting="frozen BatchNorm"), ForgetsTheMean),
    (Case(2, 3, setting="dropout"), ForgetsTheMasks),
    (Case(2, 2, "sigmoid", setting="image-text"), ForgetsTheFirstChunks),
    (Case(2, 2, "changes_with_the_ranks", setting="image-text"), Step),
]


def measure_with(world: World, cases: Sequence[tuple[Case, type[Step]]]) -> list[list[BenchRow]]:
    return [list(measure(world, case, step)) for case, step in cases]


@pytest.fixture(scope="module")
def two_ranks() -> list[list[BenchRow]]:
    return on_ranks(measure_with, 2, [*RIGHT, *WRONG, *((Case(2, 3, name), Step) for name in OTHERS)])[0]


@pytest.mark.parametrize("index", range(len(RIGHT)))
def test_gradients_on_two_ranks(two_ranks: list[list[BenchRow]], index: int) -> None:
    found = {row.name: (row.ours, row.beyond) for row in two_ranks[index]}
    assert len(found) == (7 if index < 2 else 2)
    assert all(0 < error <= LIMIT for error, _ in found.values() if error is not None), found


@pytest.mark.parametrize("index", range(len(WRONG)), ids=[f"{case.objective} {step.__name__}" for case, step in WRONG])
def test_a_wrong_step_is_told(two_ranks: list[list[BenchRow]], index: int) -> None:
    for row in two_ranks[len(RIGHT) + index]:
        assert row.ours is not None
        assert row.ours > 1e-2, row.name


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_of_other_objectives_on_two_ranks(two_ranks: list[list[BenchRow]], name: str) -> None:
    assert_exact(name, two_ranks[len(RIGHT) + len(WRONG) + OTHERS.index(name)])


@pytest.mark.long
def test_gradients_of_further_objectives_on_two_ranks() -> None:
    found = on_ranks(measure_with, 2, [(Case(2, 3, name), Step) for name in SLOWER])[0]
    for name, rows in zip(SLOWER, found, strict=True):
        assert_exact(name, rows)


def assert_exact(name: str, rows: list[BenchRow]) -> None:
    assert len(rows) == 7
    for row in rows:
        assert row.beyond["truth"] == ("naive loss" if name in NAIVE else "whole matrix of its definition")
        assert row.ours is not None
        assert 0 < row.ours <= LIMIT, row


def problem_of(name: str) -> Problem:
    """The last term of the case, in fp64, where items lack rows."""
    case, random = Case(1, 0, name), torch.Generator().manual_seed(0)
    between, objective = case.terms[-1].between, case.beside.objective

    def rows(field: str, *tokens: int) -> Rows:
        item_N = case.items(field, "rows missing")
        z_N = normalize(torch.randn(len(item_N), *tokens, 192, generator=random, dtype=torch.float64), dim=-1)
        if tokens:
            z_N[torch.arange(tokens[0]) > item_N[:, None] % tokens[0]] = 0  # of different lengths
        return Rows(z_N, slice(0, len(z_N)), item_N, item_N % 20, item_N)

    fields = {field: rows(field) for field in case.terms[-1].fields if field in (*between, *case.example.fields)}
    tokens = {field: rows(field, 4) for field in objective.tokens(between)}
    scale = torch.tensor([5.0], dtype=torch.float64)
    bias = None if objective.bias is None else torch.tensor([-1.5], dtype=torch.float64)
    unnormalised = {field: rows(field) for field in between if objective.unnormalised}
    return case.beside.problem(fields, scale, bias, 7, World(), tokens=tokens, unnormalised=unnormalised)


def gradients_of(loss_of: Callable[[str, Objective, Problem], Tensor], name: str) -> list[Tensor]:
    """By the rows, along the sphere, and by the scale."""
    problem, leaves = problem_of(name), []

    def trained(rows: Rows) -> Rows:
        leaves.append(rows.z_Nd.clone().requires_grad_())
        # The usual eps would multiply the gradient of a row of zeros, which may be mere rounding, by 1e12.
        return replace(rows, z_Nd=normalize(leaves[-1], dim=-1, eps=0.5))

    fields, tokens, unnormalised = (
        {field: trained(rows) for field, rows in of.items()}
        for of in (problem.fields, problem.tokens, problem.unnormalised)
    )
    against = {
        anchor: {field: trained(rows) for field, rows in more.items()} for anchor, more in problem.against.items()
    }
    changed = {"fields": fields, "tokens": tokens, "unnormalised": unnormalised, "against": against}
    problem = replace(problem, **changed, scale=problem.scale.requires_grad_())
    loss = loss_of(name, build_example(name), problem)
    return list(torch.autograd.grad(loss.sum(), [*leaves, problem.scale], materialize_grads=True))


@pytest.mark.parametrize("name", sorted(NAIVE))
def test_naive_losses_have_the_gradients_of_the_objectives(name: str) -> None:
    for one, other in zip(gradients_of(own_gradients, name), gradients_of(naive, name), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)  # averages of alip are fp32


@pytest.mark.parametrize("name", ["cwcl", "graded", "isogclr", "sigmoid", "soft"])
def test_the_whole_matrix_of_a_definition_has_the_gradients_of_the_naive_loss(name: str) -> None:
    for one, other in zip(gradients_of(whole_matrix, name), gradients_of(naive, name), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_objectives_are_compared_with_the_most_independent_loss_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("infonce", "symile", "multi_positive"):
        assert truth_of(name) == "naive loss"
        monkeypatch.delitem(NAIVE, name)
    assert truth_of("changes_with_the_ranks") == truth_of("infonce") == "whole matrix of its definition"
    assert truth_of("symile") == truth_of("multi_positive") == "its own gradients in one tile"


def test_every_objective_of_tercet_has_a_naive_loss() -> None:
    own = {name for name in objective_names() if objective_class(name).__module__.startswith("tercet.models")}
    assert own <= {*NAIVE}


def test_each_objective_runs_at_one_stage_and_the_usual_ones_at_all() -> None:
    chosen = [(case.zero, case.objective, case.setting) for case in cases(2, ["infonce", "macl", "soft"])]
    assert {zero for zero, name, _ in chosen if name == "infonce"} == {0, 1, 2, 3}
    assert [one for one in chosen if one[1] != "infonce"] == [(3, "macl", "plain"), (3, "soft", "plain")]
    assert len(cases(4, ["sigmoid"])) == 8
    with pytest.raises(UserError, match="unknown objective `mcl`; did you mean `macl`"):
        run(["--objective", "mcl"])


@pytest.mark.long
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

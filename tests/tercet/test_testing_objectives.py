"""The checks of an objective: sound ones pass, and each way to be wrong has its sentence."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tercet.models.losses import Objective
from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.infonce import InfoNCE
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.sigmoid import Sigmoid
from tercet.models.losses.statistics import LogSumExp, Statistic, Total
from tercet.testing import Example, check_objective


@dataclass(frozen=True)
class Focal(Objective):
    """Rows that are well told apart count less."""

    gamma: float = 2.0

    def row_weight(self, row: Anchors) -> Tensor:
        return (1 - (row.positive - row.lse).exp()) ** self.gamma


class Unbounded(Objective):
    """A weight that grows without bound as the probability of the positive nears 1."""

    def row_weight(self, row: Anchors) -> Tensor:
        return 1 / (1 - (row.positive - row.lse).exp())


class Split(Objective):
    """Weights written as plain numbers, which torch makes fp32 whatever the rows are."""

    def row_weight(self, row: Anchors) -> Tensor:
        return torch.where(row.positive < row.lse - 1, 0.9, 0.3)


class Nothing(Objective):
    def statistics(self, tile: Tile) -> dict[str, Statistic]:
        return {}


class Mixing(Objective):
    def statistics(self, tile: Tile) -> dict[str, Statistic]:
        return {"lse": LogSumExp(tile.logits + tile.logits.mean())}


class Steep(Objective):
    def statistics(self, tile: Tile) -> dict[str, Statistic]:
        return {"lse": LogSumExp(tile.logits, slope=2.0)}


class Writing(Objective):
    def statistics(self, tile: Tile) -> dict[str, Statistic]:
        return {"lse": LogSumExp(tile.logits.mul_(2.0), slope=2.0)}


class WritingSlope(Objective):
    def statistics(self, tile: Tile) -> dict[str, Statistic]:
        return {"lse": Total(tile.logits, torch.exp, torch.exp_)}

    def losses(self, anchors: Anchors) -> Tensor:
        return anchors.lse.log() - anchors.positive


class OneNumber(Objective):
    def row_weight(self, row: Anchors) -> Tensor:
        return row.lse.mean()


class Lopsided(Objective):
    symmetric = True


class OfItsTile(Objective):
    def statistics(self, tile: Tile) -> dict[str, Statistic]:
        return {"lse": LogSumExp(tile.logits + 0.1 * len(tile.keys))}


class Overflowing(Objective):
    def statistics(self, tile: Tile) -> dict[str, Statistic]:
        return {"sum": Total(tile.logits, torch.exp, torch.exp)}

    def losses(self, anchors: Anchors) -> Tensor:
        return anchors["sum"].log() - anchors.positive


class OfItsRank(Objective):
    def row_weight(self, row: Anchors) -> Tensor:
        return torch.full_like(row.lse, 2.0 if dist.is_initialized() and dist.get_world_size() > 1 else 1.0)


@pytest.mark.parametrize("objective", [InfoNCE(), Sigmoid(), Focal(), Split()], ids=repr)
def test_correct_objectives_pass(objective: Objective) -> None:
    check_objective(objective)


def test_an_objective_is_checked_by_its_name_and_options() -> None:
    check_objective("sigmoid", scale=3, bias=-1)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Nothing, "`statistics` returns nothing"),
        (Mixing, "statistic `lse` lets anchors mix"),
        (Steep, "the slope of statistic `lse` is not the derivative of its value"),
        (Writing, "`statistics` writes to the logits"),
        (WritingSlope, "a slope of `statistics` writes to the logits"),
        (OneNumber, "`row_weight` must return one value for each anchor"),
        (Lopsided, "`symmetric` is set, but the two directions have different losses"),
        (Unbounded, r"the loss or its gradients are not finite, with groups \[7\]"),
        (OfItsTile, "the loss in tiles of 1 is not that of the whole matrix"),
        (Overflowing, "logits of ±10,000 in fp32 overflow"),
        (OfItsRank, "on two processes the loss or its gradients differ from those on one"),
    ],
)
def test_each_mistake_gives_its_own_error(kind: type[Objective], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_objective(kind())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("symile", {"missing": "constant"}),
        ("poly_view", {}),
        ("matryoshka", {"dims": [3, 16]}),
        ("align_uniform", {}),
        ("listwise", {}),
        ("graded_list", {}),
    ],
)
def test_objectives_that_solve_a_term_themselves_pass(name: str, options: dict[str, object]) -> None:
    check_objective(name, **options)


class Attraction(Objective):
    """The mean of −s ⟨x, y⟩ over the items that have both, as a user would write it."""

    factor: float = 1.0

    def solve(self, problem: Problem) -> Solution:
        found = Solution.empty(problem)
        (one, x), (other, y) = ((name, rows) for name, rows in problem.fields.items())
        x_N, y_N = torch.isin(x.item_N, y.item_N), torch.isin(y.item_N, x.item_N)
        x_own, y_own = x_N[x.own], y_N[y.own]
        along = (x.z_Ad[x_own] * y.z_Ad[y_own]).sum() / max(int(x_N.sum()), 1)
        along = problem.world.sum(along)
        found.loss, found.scale = -problem.scale.reshape(()) * along, -along
        weight = self.factor * problem.scale / max(int(x_N.sum()), 1)
        found.rows[one][x_own] -= weight * y.z_Ad[y_own]
        found.rows[other][y_own] -= weight * x.z_Ad[x_own]
        return found


def mean_cosine(fields: Mapping[str, Tensor], groups: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    x, y = fields.values()
    return -scale * (x * y).sum(dim=1).mean()


class TooSteep(Attraction):
    factor = 2.0


class WritingRows(Attraction):
    def solve(self, problem: Problem) -> Solution:
        for rows in problem.fields.values():
            rows.z_Nd.mul_(1.1)
        return super().solve(problem)


class Shapeless(Attraction):
    def solve(self, problem: Problem) -> Solution:
        found = super().solve(problem)
        found.rows["image"] = found.rows["image"].sum(dim=0)
        return found


class NotFinite(Attraction):
    def solve(self, problem: Problem) -> Solution:
        found = super().solve(problem)
        found.loss = found.loss / (len(problem.fields["text"]) - 1)
        return found


class OfItsTiling(Attraction):
    def solve(self, problem: Problem) -> Solution:
        found = super().solve(problem)
        found.loss = found.loss + problem.tile
        return found


class OfItsOwnRows(Attraction):
    def solve(self, problem: Problem) -> Solution:
        found = super().solve(problem)
        found.loss = found.loss + sum(len(rows.z_Ad) for rows in problem.fields.values())
        return found


class OverflowingScale(Attraction):
    def solve(self, problem: Problem) -> Solution:
        found = super().solve(problem)
        found.loss = found.loss + 0.0 * problem.scale.exp().sum()
        return found


def test_an_objective_may_be_checked_against_its_definition() -> None:
    check_objective(Attraction(), definition=mean_cosine)
    with pytest.raises(AssertionError, match="the gradient of `image` is not that of `definition`"):
        check_objective(TooSteep(), definition=mean_cosine)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (TooSteep, "the gradient of `image` is not the derivative of the loss, with all rows"),
        (WritingRows, "`solve` writes to `image` of the problem"),
        (Shapeless, r"the gradient of `image` has shape \[6\], not \[9, 6\]"),
        (NotFinite, "the loss is not finite, with one item"),
        (OfItsTiling, "the loss in tiles of 1 differs, with all rows"),
        (OverflowingScale, "a scale of 10,000 in fp32 gives inf or NaN"),
        (OfItsOwnRows, "on two processes the loss differs from that on one, with all rows"),
    ],
)
def test_each_mistake_of_solving_gives_its_own_error(kind: type[Objective], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_objective(kind())


@pytest.mark.parametrize("name", ["graded", "isogclr", "soft"])
def test_values_columns_and_references_come_from_the_example(name: str) -> None:
    check_objective(name)


def test_an_objective_may_bring_its_example() -> None:
    check_objective("poly_view", example=Example(("image", "text", "audio", "series"), rows={"text": 2}))

"""The checks of an objective: sound ones pass, and each way to be wrong has its sentence."""

from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tercet.models.losses import Objective
from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.infonce import InfoNCE
from tercet.models.losses.sigmoid import Sigmoid
from tercet.models.losses.statistics import LogSumExp, Statistic, Total
from tercet.testing import check_objective


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

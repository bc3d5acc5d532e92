"""The checks of an objective: sound ones pass, and each way to be wrong has its sentence."""

from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tercet.models.losses import Objective
from tercet.models.losses.infonce import InfoNCE
from tercet.models.losses.objective import Row
from tercet.models.losses.sigmoid import Sigmoid
from tercet.testing import check_objective


@dataclass(frozen=True)
class Focal(Objective):
    """Rows that are well told apart count less."""

    gamma: float = 2.0

    def row_weight(self, row: Row) -> Tensor:
        return (1 - (row.positive - row.lse).exp()) ** self.gamma


class Unbounded(Objective):
    """A weight that grows without bound as the probability of the positive nears 1."""

    def row_weight(self, row: Row) -> Tensor:
        return 1 / (1 - (row.positive - row.lse).exp())


class Split(Objective):
    """Weights written as plain numbers, which torch makes fp32 whatever the rows are."""

    def row_weight(self, row: Row) -> Tensor:
        return torch.where(row.positive < row.lse - 1, 0.9, 0.3)


class Matrix(Objective):
    def reduce(self, logits: Tensor) -> Tensor:
        return logits


class Mixing(Objective):
    def reduce(self, logits: Tensor) -> Tensor:
        return torch.logsumexp(logits, dim=1) + logits.mean()


class Largest(Objective):
    def merge(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.maximum(one, other)


class Steep(Objective):
    def slope(self, logits: Tensor, reduced: Tensor) -> Tensor:
        return 2 * (logits - reduced).exp()


class Columns(Objective):
    def slope(self, logits: Tensor, reduced: Tensor) -> Tensor:
        return (logits - reduced.reshape(-1, 1)).exp() if len(logits) == reduced.numel() else logits.exp()


class Writing(Objective):
    def slope(self, logits: Tensor, reduced: Tensor) -> Tensor:
        return logits.sub_(reduced).exp_()


class Unmasked(Objective):
    def reduce(self, logits: Tensor) -> Tensor:
        return torch.logsumexp(logits.clamp(min=-50), dim=1)

    def slope(self, logits: Tensor, reduced: Tensor) -> Tensor:
        return (logits.clamp(min=-50) - reduced).exp() + 1e-3 * torch.isinf(logits)


class Relative(Objective):
    def row_weight(self, row: Row) -> Tensor:
        return row.lse / row.lse.sum()


class OneNumber(Objective):
    def row_weight(self, row: Row) -> Tensor:
        return row.lse.mean()


class Lopsided(Objective):
    symmetric = True


class OfItsTile(Objective):
    def slope(self, logits: Tensor, reduced: Tensor) -> Tensor:
        return (logits - reduced).exp() * (9 / max(logits.shape))


class Overflowing(Objective):
    def reduce(self, logits: Tensor) -> Tensor:
        return logits.exp().sum(dim=1).log()


class OfItsRank(Objective):
    def row_weight(self, row: Row) -> Tensor:
        return torch.full_like(row.lse, 2.0 if dist.is_initialized() and dist.get_world_size() > 1 else 1.0)


@pytest.mark.parametrize("objective", [InfoNCE(), Sigmoid(), Focal(), Split()], ids=repr)
def test_correct_objectives_pass(objective: Objective) -> None:
    check_objective(objective)


def test_an_objective_is_checked_by_its_name_and_options() -> None:
    check_objective("sigmoid", scale=3, bias=-1)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Matrix, "`reduce` must return one value for each anchor's row"),
        (Mixing, "`reduce` lets the rows of a tile mix"),
        (Largest, "`merge` of two tiles' reductions is not the reduction of both"),
        (Steep, "`slope` is not the derivative of `reduce`"),
        (Columns, "`slope` must let `reduced` broadcast"),
        (Writing, "`slope` writes to its logits"),
        (Unmasked, "`slope` must be 0 at masked keys"),
        (Relative, "`row_weight` lets anchors mix"),
        (OneNumber, "`row_weight` must return one value for each anchor"),
        (Lopsided, "`symmetric` is set, but the two directions have different losses"),
        (Unbounded, r"the loss or its gradients are not finite, with groups \[7\]"),
        (OfItsTile, "the gradient in tiles of 1 is not that of the whole matrix"),
        (Overflowing, "logits of ±10,000 in fp32 overflow"),
        (OfItsRank, "on two processes the loss or its gradients differ from those on one"),
    ],
)
def test_each_mistake_gives_its_own_error(kind: type[Objective], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_objective(kind())

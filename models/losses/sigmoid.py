"""The sigmoid loss: a binary classification of every entry of the matrix (SigLIP, Zhai et al. 2023).

−log σ(u) = softplus(u) − u gives it the form of the other objectives: all entries repel, the positives attract.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tercet.models.losses.objective import Objective, Row, objective


@objective("sigmoid")
class Sigmoid(Objective):
    """Softplus over all pairs. The bias starts low, so that the loss of the many negatives starts near zero."""

    scale: float = 10.0
    bounds: tuple[float, float] = (1.0, 1000.0)
    bias: float | None = -10.0

    symmetric: ClassVar[bool] = True

    def reduce(self, logits: Tensor) -> Tensor:
        return softplus(logits).sum(dim=1)

    def merge(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other

    def slope(self, logits: Tensor, reduced: Tensor) -> Tensor:
        return torch.sigmoid(logits)

    def probability(self, row: Row) -> Tensor:
        return torch.sigmoid(row.positive)

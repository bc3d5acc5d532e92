"""The sigmoid loss: a binary classification of every entry of the matrix (SigLIP, Zhai et al. 2023).

−log σ(u) = softplus(u) − u, so all entries repel and the positives attract. An item may have several positives.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.statistics import Statistic, Total


@objective("sigmoid")
class Sigmoid(Objective):
    """Decides for each pair by itself whether it belongs together (SigLIP, Zhai et al. 2023)."""

    scale: float = 10.0
    bounds: tuple[float, float] = (1.0, 1000.0)
    bias: Annotated[
        float | None,
        Field(description="what is added to all logits at first; low, so that the many negatives begin near no loss"),
    ] = -10.0

    symmetric: ClassVar[bool] = True

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        return {"push": Total(tile.logits, softplus, torch.sigmoid)}

    def losses(self, anchors: Anchors) -> Tensor:
        return anchors["push"] - anchors.positive

    def probability(self, row: Anchors) -> Tensor:
        return torch.sigmoid(row.positive)

"""HN-NCE: hard negatives count more (DiHT, Radenovic et al. 2023, after Robinson et al. 2021).

    L_i = −log [ e^S_ii / (α e^S_ii + Σ_j w_ij e^S_ij) ],    w_ij = n_i e^(β S_ij) / Σ_k e^(β S_ik)

with sums over the n_i negatives of the anchor, so that its weights are 1 on average. α = 1 and β = 0 is InfoNCE, α = 0
and β = 0 the decoupled loss, α = 0 alone DHN-NCE (Koleilat et al. 2024).

Where this differs from the paper: the weights are constants, as in importance sampling. The paper does not say so, and
public code differentiates them; the easiest negatives then attract. Keys of the anchor's own group do not count in n_i,
extra negatives do. An anchor without negatives has no loss.
"""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.softmax import Softmax
from tercet.models.losses.statistics import LogSumExp, Statistic, finite


@objective("hard_negative")
class HardNegative(Softmax):
    """InfoNCE where the most similar negatives count more (HN-NCE of DiHT, Radenovic et al. 2023)."""

    alpha: Annotated[float, Field(ge=0, le=1, description="weight of the positive in the denominator")] = 1.0
    beta: Annotated[
        float, Field(ge=0, description="the higher, the more hard negatives count; at 0 all count the same")
    ] = 0.25

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        others = tile.others(tile.logits)
        if not self.beta:
            return {"hard": LogSumExp(others)}
        sharper = self.beta * others.detach()
        return {"hard": LogSumExp(others + sharper), "sharper": LogSumExp(sharper, slope=0.0)}

    def losses(self, anchors: Anchors) -> Tensor:
        repelled = self._hard(anchors) - anchors.positive
        if not self.alpha:
            return repelled
        return math.log(self.alpha) + softplus(repelled - math.log(self.alpha))

    def probability(self, row: Anchors) -> Tensor:
        """Among the positive and the weighted negatives."""
        return torch.sigmoid(row.positive - self._hard(row))

    def _hard(self, anchors: Anchors) -> Tensor:
        """log Σ w e^S over the negatives; −inf without any."""
        if not self.beta:
            return anchors["hard"]
        return anchors["hard"] - finite(anchors["sharper"]) + anchors.negatives.log()

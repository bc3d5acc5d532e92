"""MACL: a temperature that follows how well the model aligns positives (Huang et al. 2023).

The temperature of a step is τ = τ₀ (1 + α (A − A₀)), where A is the mean cosine of all positive pairs of the batch. An
aligned model gets a higher temperature, which tolerates similar negatives. The loss of each anchor is InfoNCE divided
by 1 − P, the probability of its negatives. A and 1 − P are constants, as in the authors' code.

InfoNCE's gradient has the factor 1 − P, which the division cancels: what remains is the gradient of the decoupled loss.
Computed from the negatives alone, it stays exact as P nears 1.

Where this differs from the paper: the temperature never falls below τ₀ / 10. Keys of the anchor's own group do not
count; extra negatives count in 1 − P but not in A. An anchor that no key repels has no loss.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.softmax import Softmax
from tercet.models.losses.statistics import LogSumExp, Statistic


@objective("macl")
class MACL(Softmax):
    """InfoNCE with a temperature that follows the alignment (Huang et al. 2023)."""

    scale: Annotated[float, Field(description="1 / τ₀; not learned, so change both `bounds` with it")] = 10.0
    bounds: tuple[float, float] = (10.0, 10.0)
    alpha: Annotated[
        float, Field(ge=0, le=1, description="how strongly the temperature follows the alignment; 0: not at all")
    ] = 0.5
    alignment: Annotated[
        float, Field(ge=-1, le=1, description="A₀, the mean cosine of positive pairs at which the temperature is τ₀")
    ] = 0.0

    def scale_factor(self, cosine_N: Tensor) -> Tensor:
        alignment = cosine_N.sum() / max(len(cosine_N), 1)
        return 1 / (1 + self.alpha * (alignment - self.alignment)).clamp(min=0.1)

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        return {"lse": LogSumExp(tile.others(tile.logits))}

    def losses(self, anchors: Anchors) -> Tensor:
        return softplus(anchors.lse - anchors.positive)

    def row_weight(self, row: Anchors) -> Tensor:
        return 1 / torch.sigmoid(row.lse - row.positive).clamp(min=torch.finfo(row.lse.dtype).tiny)

    def probability(self, row: Anchors) -> Tensor:
        return torch.sigmoid(row.positive - row.lse)

"""Decoupled contrastive learning: the positive is not among the keys that repel (DCL and DCLW, Yeh et al. 2022).

DCL is InfoNCE without the positive in the denominator, so that gradients do not fade as the positive becomes easy. It
helps with small batches. The loss may be negative: it has no lower bound at a free temperature.

DCLW weighs the positive logit by 2 − e^(cos_i/σ) / mean(e^(cos/σ)), over all pairs of the batch: a positive that is
already close pulls less.

Where this differs from the paper: anchors and keys are of different fields, so the repelling keys are those of the
other field only. The weight is a constant; the paper does not say, and public code does either. An anchor that no key
repels has no loss.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.softmax import Softmax
from tercet.models.losses.statistics import LogSumExp, Statistic


@objective("decoupled")
class Decoupled(Softmax):
    """InfoNCE without the anchor's own key among those that repel (DCL and DCLW, Yeh et al. 2022)."""

    sigma: Annotated[
        float | None,
        Field(gt=0, description="turns DCL into DCLW: the lower, the more the weights differ; the paper uses 0.5"),
    ] = None

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        return {"lse": LogSumExp(tile.others(tile.logits))}

    def losses(self, anchors: Anchors) -> Tensor:
        if self.sigma is None:
            return anchors.lse - anchors.positive
        # A bias is the same for all pairs, so the softmax does not depend on it.
        cosine_N = (anchors.positive / anchors.scale).detach()
        weight_N = 2 - len(cosine_N) * torch.softmax(cosine_N / self.sigma, dim=0)
        return anchors.lse - weight_N * anchors.positive

    def probability(self, row: Anchors) -> Tensor:
        return torch.sigmoid(row.positive - row.lse)

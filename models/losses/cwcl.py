"""CWCL: similar items are partial positives of each other (Srinivasa et al. 2023).

One field is locked: a pretrained tower whose space already says how alike two items are. Its anchors draw on all keys,
each weighted by the likeness of the locked vectors of the anchor's item and the key's item:

    L_i = −Σ_j w_ij log P_ij / Σ_j w_ij,    w_ij = (1 + cos_ij) / 2

The anchors of the other field are trained by InfoNCE.

Where this differs from the paper: the loss is the mean of the two directions, not their sum. The likeness is that of
the locked vectors in the joint space, and a constant. Keys of the anchor's own group count neither as positives nor as
negatives. Extra negatives repel and have weight 0. The kernel `sharp` is not in the paper: with `linear`, unrelated
items have weights near 1/2, so they attract almost as much as the positive.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.softmax import Softmax
from tercet.models.losses.statistics import Mean, Statistic


@objective("cwcl")
class CWCL(Softmax):
    """InfoNCE where items that are alike in a locked field are partial positives (Srinivasa et al. 2023)."""

    locked: Annotated[
        Literal["first", "second"],
        Field(
            description="which of the two fields that `between` names is locked; lock its tower too, with `unlocked: 0`"
        ),
    ] = "first"
    kernel: Annotated[
        Literal["linear", "sharp"],
        Field(description="turns a cosine into a weight: linear is (1 + cos) / 2, sharp is e^((cos − 1) / tau_w)"),
    ] = "linear"
    tau_w: Annotated[
        float, Field(gt=0, description="of the kernel `sharp`: the lower, the fewer items are partial positives")
    ] = 0.1

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        found = super().statistics(tile)
        if not self._draws(tile.side) or tile.partners is None:
            return found
        cosine_AK = (tile.anchors.z_Nd @ tile.partners.z_Nd.T).detach()
        return {**found, "drawn": Mean(tile.logits, self._log_weight(cosine_AK))}

    def losses(self, anchors: Anchors) -> Tensor:
        return anchors.lse - (anchors["drawn"] if self._draws(anchors.side) else anchors.positive)

    def _draws(self, side: str) -> bool:
        return side == ("x" if self.locked == "first" else "y")

    def _log_weight(self, cosine_AK: Tensor) -> Tensor:
        if self.kernel == "sharp":
            return (cosine_AK - 1) / self.tau_w
        return ((1 + cosine_AK) / 2).clamp(min=torch.finfo(cosine_AK.dtype).tiny).log()

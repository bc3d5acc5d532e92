"""InfoNCE: each anchor must find its key among all keys, in both directions (Sohn 2016; CLIP, Radford et al. 2021).

With label smoothing (Szegedy et al. 2016), the target is not all of an anchor's own key.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.softmax import Softmax
from tercet.models.losses.statistics import Mean, Statistic


@objective("infonce")
class InfoNCE(Softmax):
    """Each anchor must find its own key among all keys of the batch (Sohn 2016; CLIP, Radford et al. 2021)."""

    smoothing: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="share of the target that is spread evenly over all keys of the anchor: its own, and all that "
            "may repel it, also extra negatives",
        ),
    ] = 0.0

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        found = super().statistics(tile)
        return {**found, "even": Mean(tile.logits, torch.zeros_like(tile.logits))} if self.smoothing else found

    def losses(self, anchors: Anchors) -> Tensor:
        if not self.smoothing:
            return super().losses(anchors)
        return anchors.lse - anchors.positive.lerp(anchors["even"], self.smoothing)

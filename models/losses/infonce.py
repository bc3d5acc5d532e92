"""InfoNCE: each anchor must find its key among all keys, in both directions (Sohn 2016; CLIP, Radford et al. 2021).

With label smoothing (Szegedy et al. 2016), the target is not all of an anchor's own key. With mixup, an anchor is in
part another item p, whose key is as much of the target: L_i = lse_i − λ_i S_ii − (1 − λ_i) S_ip.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import PARTNER, SHARE
from tercet.models.losses.softmax import Softmax
from tercet.models.losses.statistics import LogSumExp, Mean, Statistic


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

    @property
    def mixes(self) -> bool:
        """Filters and weights of negatives would also drop or weigh the partner's key."""
        return not (self.hardness_strength or self.margin is not None or self.max_similarity is not None) and not (
            self.top_k or self.own_negatives_only
        )

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        found = dict(super().statistics(tile))
        if self.smoothing:
            found["even"] = Mean(tile.logits, torch.zeros_like(tile.logits))
        if PARTNER in tile.anchors.extra:
            partner_AK = tile.anchors.extra[PARTNER].long()[:, None] == tile.keys.item_N
            found["partner"] = LogSumExp(tile.logits.masked_fill(~partner_AK, -torch.inf))  # of a single key
        return found

    def losses(self, anchors: Anchors) -> Tensor:
        target = anchors.positive
        if PARTNER in anchors.rows.extra:
            target = anchors["partner"].lerp(target, anchors.rows.extra[SHARE])
        if self.smoothing:
            target = target.lerp(anchors["even"], self.smoothing)
        return anchors.lse - target

"""Same cluster: the keys of an anchor's cluster are partial positives (SupCon, Khosla et al. 2020).

    L_i = −(1 − λ) log P_ii − λ / |C_i| Σ_{j in C_i} log P_ij

C_i are the keys whose sample is in the same cluster as the anchor's, by the clusters that rows of the anchor's field
are compared with; the own key is always one of them. P is the softmax over all keys, as in InfoNCE. Keys may also be
those of a queue, `against: {image: [queue.text]}`: so members of a memory are positives if they are in the anchor's
cluster, as in BECLR (Poulakakis-Daktylidis and Jamali-Rad 2024), which takes only the nearest of them.

Clusters come from the memory that the term's `prototypes` names, as for the objective `prototype`. This one needs no
centroids, and tells samples of one cluster apart as far as λ is below 1. Until the memory has clusters, and for samples
without one, it is InfoNCE. As in the paper, the mean is outside of the logarithm. The paper compares rows of one field
and has true labels, with λ = 1. Wrong captions are in no cluster.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import LABEL
from tercet.models.losses.softmax import Softmax
from tercet.models.losses.statistics import Mean, Statistic


@objective("same_cluster")
class SameCluster(Softmax):
    """InfoNCE where keys of the anchor's cluster are partial positives (SupCon, Khosla et al. 2020)."""

    weight_cluster: Annotated[
        float, Field(ge=0, le=1, description="λ, the share of the target that all keys of the cluster divide evenly")
    ] = 0.5

    prototypes: ClassVar[bool] = True

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        found = super().statistics(tile)
        keys = tile.keys if tile.partners is None else tile.partners
        if LABEL not in tile.anchors.extra or LABEL not in keys.extra:
            return found
        label_A1, label_K = tile.anchors.extra[LABEL][:, None], keys.extra[LABEL]
        same_AK = ((label_A1 == label_K) & (label_A1 >= 0)) | tile.same_item()
        log_weight_AK = torch.zeros_like(tile.logits).masked_fill(~same_AK, -torch.inf)
        return {**found, "drawn": Mean(tile.logits, log_weight_AK)}

    def losses(self, anchors: Anchors) -> Tensor:
        if "drawn" not in anchors.statistics:
            return super().losses(anchors)
        return anchors.lse - anchors.positive.lerp(anchors["drawn"], self.weight_cluster)

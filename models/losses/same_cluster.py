"""Same cluster: the keys of an anchor's cluster are partial positives (SupCon, Khosla et al. 2020).

    L_i = −(1 − λ) log P_ii − λ / |C_i| Σ_{j in C_i} log P_ij

C_i are the keys whose sample is in the same cluster as the anchor's, by the clusters that rows of the anchor's field
are compared with; the own key is always one of them. P is the softmax over all keys, as in InfoNCE. Keys may also be
those of a queue, `against: {image: [queue.text]}`: so members of a memory are positives if they are in the anchor's
cluster.

`nearest: k` keeps the own key and only the k others of C_i that are most similar to it. With λ = 1 and a
`clustered_queue`, these are the positives of BECLR (Poulakakis-Daktylidis and Jamali-Rad 2024). BECLR pulls anchors to
them by cosines alone; here they are the target of a softmax over all keys, so the other keys repel.

Clusters come from the memory that the term's `prototypes` names, as for the objective `prototype`. This one needs no
centroids, and tells samples of one cluster apart as far as λ is below 1. Until the memory has clusters, and for samples
without one, it is InfoNCE. As in the paper of SupCon, the mean is outside of the logarithm. That paper compares rows of
one field and has true labels, with λ = 1. Wrong captions are in no cluster.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import LABEL
from tercet.models.losses.softmax import Softmax, cosines
from tercet.models.losses.statistics import Mean, Statistic, Threshold
from tercet.models.losses.tiles import ROUNDING


@objective("same_cluster")
class SameCluster(Softmax):
    """InfoNCE where keys of the anchor's cluster are partial positives (SupCon, Khosla et al. 2020)."""

    weight_cluster: Annotated[
        float, Field(ge=0, le=1, description="λ, the share of the target that all keys of the cluster divide evenly")
    ] = 0.5
    nearest: Annotated[
        int | None,
        Field(
            gt=0,
            description="how many other keys of the cluster are positives, those most similar to the own key; null: "
            "all; BECLR: 3",
        ),
    ] = None

    prototypes: ClassVar[bool] = True

    @property
    def stages(self) -> int:
        return 1 if self.nearest is None else 2

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        same_AK = same_cluster(tile)
        if self.nearest is not None and same_AK is not None:
            cosine_AK = cosines(tile, "key-key", guided=False)
            assert cosine_AK is not None  # each item has one row of each field
            if tile.stage == 0:
                other_AK = same_AK & ~tile.same_item()
                return {"nearest": Threshold(cosine_AK.masked_fill(~other_AK, -torch.inf), self.nearest)}
            same_AK &= cosine_AK >= tile.results["nearest"] - ROUNDING
        if tile.stage < self.stages - 1:
            return {}
        found = super().statistics(tile)
        if same_AK is None:
            return found
        positive_AK = same_AK | tile.same_item()
        log_weight_AK = torch.zeros_like(tile.logits).masked_fill(~positive_AK, -torch.inf)
        return {**found, "drawn": Mean(tile.logits, log_weight_AK)}

    def losses(self, anchors: Anchors) -> Tensor:
        if "drawn" not in anchors.statistics:
            return super().losses(anchors)
        return anchors.lse - anchors.positive.lerp(anchors["drawn"], self.weight_cluster)


def same_cluster(tile: Tile) -> Tensor | None:
    """Which keys are in the cluster of the anchor `[A, K]`. None if the keys have no clusters."""
    keys = tile.keys if tile.partners is None else tile.partners
    if LABEL not in tile.anchors.extra or LABEL not in keys.extra:
        return None
    label_A1 = tile.anchors.extra[LABEL][:, None]
    return (label_A1 == keys.extra[LABEL]) & (label_A1 >= 0)

"""DRRho: a reference model says what the learner should weigh more (Wei et al. 2025).

A robust loss is the worst mean over weights p that stay close to uniform ones. Here it is that of the excess of the
learner's losses L over those of a reference L', whose dual is a log-sum-exp:

    max_p Σ p_i (L_i − L'_i) − T KL(p ‖ 1/N) = T log 1/N Σ_i e^((L_i − L'_i)/T),    p_i ∝ e^((L_i − L'_i)/T)

So what the reference finds easy and the learner does not gets more weight, and what both find hard, such as a wrong
caption, does not. R are the scaled cosines of the reference. There are two choices of what is weighed:

    negatives   L_i = log Σ_j e^((S_ij − S_ii) − (R_ij − R_ii)): each anchor weighs its keys. This is DRRho-CLIP
    samples     L_i of InfoNCE, weighed by N p_i over all anchors of a direction

Where this differs from the paper: the own key counts among the keys, as in InfoNCE. The mean is taken over the batch,
without moving averages. R is scaled by a constant, which by default is the learner's scale of the step; the gradient of
the scale is that of S alone. Keys that the reference has not seen, such as those of a queue, count as in InfoNCE.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.rows import Rows
from tercet.models.losses.softmax import Softmax
from tercet.models.losses.statistics import LogSumExp, Statistic

TEACHER = "teacher"


@objective("drrho")
class DRRho(Softmax):
    """InfoNCE where a reference model weighs negatives or samples (DRRho-CLIP, Wei et al. 2025)."""

    weigh: Annotated[
        Literal["negatives", "samples"],
        Field(
            description="negatives: a key counts less, the more similar to the anchor the reference finds it; samples: "
            "an anchor counts more, the more the learner's loss exceeds the reference's"
        ),
    ] = "negatives"
    temperature: Annotated[
        float, Field(gt=0, description="of `samples`: T, the higher, the more alike the weights of samples are")
    ] = 1.0
    reference_scale: Annotated[
        float | None,
        Field(ge=0, description="the inverse temperature of the reference's cosines; null: the learner's at this step"),
    ] = None

    references: ClassVar[tuple[str, ...]] = (TEACHER,)

    def log_weights(self, tile: Tile) -> Tensor | None:
        hardness = super().log_weights(tile)
        if self.weigh != "negatives" or TEACHER not in tile.keys.extra:
            return hardness
        assert tile.own is not None  # each item has one row of each field
        own_A1 = (_seen(tile.anchors, tile) * _seen(tile.own, tile)).sum(dim=1, keepdim=True)
        weight_AK = self._scale(tile) * (own_A1 - _seen(tile.anchors, tile) @ _seen(tile.keys, tile).T)
        return weight_AK if hardness is None else hardness + weight_AK

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        found = super().statistics(tile)
        if self.weigh != "samples":
            return found
        seen_AK = torch.full_like(tile.logits, -torch.inf)
        if TEACHER in tile.keys.extra:
            seen_AK = self._scale(tile) * (_seen(tile.anchors, tile) @ _seen(tile.keys, tile).T)
        own_AK = seen_AK.masked_fill(~tile.same_item(), -torch.inf)
        return {**found, "reference": LogSumExp(seen_AK, slope=0.0), "known": LogSumExp(own_AK, slope=0.0)}

    def row_weight(self, row: Anchors) -> Tensor | None:
        if self.weigh != "samples":
            return None
        excess_N = (row.lse - row.positive) - (row["reference"] - row["known"])
        return torch.softmax(excess_N / self.temperature, dim=0) * len(excess_N)

    def _scale(self, tile: Tile) -> Tensor | float:
        return tile.scale.detach() if self.reference_scale is None else self.reference_scale


def _seen(rows: Rows, tile: Tile) -> Tensor:
    """The vectors of the reference."""
    return rows.extra[TEACHER].to(tile.logits.dtype)

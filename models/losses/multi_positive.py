"""Several positives of an item: captions in K languages (1-to-K, CCRK, 2024), several captions, sub-captions (DreamLIP,
Zheng et al. 2024).

All rows of both fields are in one matrix. An anchor with K positives has the loss

    together:  1/K Σ_k (lse over all keys − S_k)               1-to-K; the positives also compete with each other
    apart:     1/K Σ_k (lse over S_k and the negatives − S_k)  each positive has only negatives beside it

In the direction from the several to the one, each row is an anchor of its own, and the mean is over all of them. With
K = 1, both are InfoNCE. DreamLIP's loss over K sub-captions is `apart`, but that its negatives of a sub-caption are the
sub-captions of the same number; a plain `infonce` term over a field of several rows is exactly that.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.statistics import LogSumExp, Mean, Statistic


@objective("multi_positive")
class MultiPositive(Objective):
    """InfoNCE with several positives, such as captions in K languages (1-to-K of CCRK, Nie et al. 2024)."""

    positives: Annotated[
        Literal["together", "apart"],
        Field(description="whether the positives of an anchor also compete with each other, or only with negatives"),
    ] = "together"

    several: ClassVar[bool] = True

    @property
    def stages(self) -> int:
        return 1 if self.positives == "together" else 2

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        S = tile.logits
        own_AK = torch.zeros_like(S).masked_fill_(~tile.same_item(), -torch.inf)
        if self.positives == "together":
            return {"lse": LogSumExp(S), "own": Mean(S, own_AK)}
        if tile.stage == 0:
            return {"others": LogSumExp(tile.others(S)), "own": Mean(S, own_AK)}
        # log(e^others + e^S) − S = softplus(others − S). Its slope by `others` is σ(others − S), whose mean is `pull`.
        gap_AK = tile.results["others"] - S
        likely_AK = torch.sigmoid(gap_AK)
        return {"apart": Mean(softplus(gap_AK), own_AK, -likely_AK), "pull": Mean(likely_AK.detach(), own_AK, 0.0)}

    def losses(self, anchors: Anchors) -> Tensor:
        if self.positives == "together":
            return anchors.lse - anchors["own"]
        others = anchors["others"]
        return anchors["apart"] + anchors["pull"].detach() * (others - others.detach())

    def probability(self, row: Anchors) -> Tensor:
        """The geometric mean over the positives."""
        return (-self.losses(row)).exp()

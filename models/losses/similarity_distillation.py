"""Similarity distillation: cosines are those of a teacher, or the means of several (TeachText, Croitoru et al. 2021).

    L = 1/N² Σ_ij h(⟨x_i, y_j⟩ − 1/K Σ_k ⟨x_i^k, y_j^k⟩),    h(x) = x²/2 if |x| ≤ 1, |x| − 1/2 otherwise

x^k and y^k are the vectors of teacher k, whose space may have any dimensions: references: {teacher: ONE, teacher_2:
OTHER}. In the paper, the teachers are retrieval models that differ in their text encoders. Add it to a contrastive
loss, as the paper does to a ranking loss.

Where this differs from the paper: keys of other items of the anchor's own group do not count. Cosines differ by less
than 1 as a rule, where h is half the square.

The paper also drops the training pairs that its teachers rank low. This is a choice of samples, made before training:
score the pairs with each teacher, and select by the score.

The term's temperature is not used.

Shapes: A anchors and K keys of one tile.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.soft import TEACHERS
from tercet.models.losses.statistics import Statistic, Total
from tercet.models.losses.unscaled import Unscaled


@objective("similarity_distillation")
class SimilarityDistillation(Unscaled):
    """Makes cosines those of a teacher, or the means of several (TeachText, Croitoru et al. 2021)."""

    symmetric: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against",)
    references: ClassVar[tuple[str, ...]] = TEACHERS[:1]
    optional_references: ClassVar[tuple[str, ...]] = TEACHERS[1:]

    def solve(self, problem: Problem) -> Solution:
        found = super().solve(of_cosines(problem))
        found.scale, found.bias = torch.zeros_like(found.scale), torch.zeros_like(found.bias)
        return found

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        return super().losses_of_items(of_cosines(problem))

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        taught = [
            tile.anchors.extra[name].to(tile.logits) @ tile.keys.extra[name].to(tile.logits).T
            for name in TEACHERS
            if name in tile.keys.extra
        ]
        taught_AK = torch.stack(taught).mean(dim=0)

        def half_square(logits_AK: Tensor) -> Tensor:
            return smooth_l1_loss(logits_AK, taught_AK, reduction="none")

        def slope(logits_AK: Tensor) -> Tensor:
            return (logits_AK - taught_AK).clamp(-1, 1)

        return {"gap": Total(tile.logits, half_square, slope)}

    def weighted(self, anchors: Anchors) -> Tensor:
        """All pairs count the same, also if anchors have different numbers of keys."""
        pairs = (anchors.negatives + 1).sum().clamp(min=1)
        return anchors["gap"] * (anchors.share / pairs)


def of_cosines(problem: Problem) -> Problem:
    """The problem with cosines as its logits."""
    return replace(problem, scale=torch.ones_like(problem.scale), bias=None)

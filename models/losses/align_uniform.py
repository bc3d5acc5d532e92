"""Alignment and uniformity on the sphere, optimised directly (Wang & Isola 2020).

    L = E ‖x − y‖^α + λ · mean over fields of log E e^(−t ‖x − x'‖²)

The first mean is over positive pairs, the second over all pairs of rows of one field. For unit vectors,
‖x − x'‖² = 2 − 2 ⟨x, x'⟩. So the second is a log-sum-exp of 2t ⟨x, x'⟩ over the whole batch. The kernel computes it,
with a field against itself.

Where this differs from the paper: rows of one group do not repel each other. Uniformity includes the rows of items that
lack the other field. With more than two fields, alignment is the mean over the pairs of fields. No item has a loss of
its own in the paper; where one is needed, it is the item's alignment, and log E e^(−t ‖x − x'‖²) over its row alone.

The term's temperature is not used.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.anchors import Anchors, Tile
from tercet.models.losses.kernel import Pair, contrast, item_losses
from tercet.models.losses.objective import objective
from tercet.models.losses.pairs import positives
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.statistics import LogSumExp, Statistic
from tercet.models.losses.unscaled import Unscaled


@objective("align_uniform")
class AlignUniform(Unscaled):
    """Alignment of pairs and uniformity of each field, optimised directly (Wang & Isola 2020)."""

    alpha: Annotated[float, Field(ge=1, description="α, the power of the distance of a pair")] = 2.0
    t: Annotated[float, Field(gt=0, description="the higher, the more only the nearest rows repel each other")] = 2.0
    uniformity: Annotated[float, Field(ge=0, description="λ, the weight of uniformity")] = 1.0

    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against", "directions")

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        for one, other, x_N, y_N, weight in positives(problem):
            x, y = problem.fields[one], problem.fields[other]
            distance_A, slope_Ad = self._align(x.z_Ad[x_N[x.own]], y.z_Ad[y_N[y.own]])
            count = max(int(x_N.sum()), 1)
            whole.loss = whole.loss + problem.world.sum(distance_A.sum()) * (weight / count)
            whole.rows[one][x_N[x.own]] += slope_Ad * (weight / count)
            whole.rows[other][y_N[y.own]] -= slope_Ad * (weight / count)
        if self.uniformity:
            for name, weight in self._fields(problem):
                found = contrast(self, self._pair(problem, name), problem.world)
                whole.loss = whole.loss + weight * found.loss
                whole.rows[name] += weight * (found.x_Ad + found.y_Ad)
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        for one, other, x_N, y_N, weight in positives(problem):
            x, y = problem.fields[one].pick(x_N), problem.fields[other].pick(y_N)
            distance_N, _ = self._align(x.z_Nd, y.z_Nd)
            yield x.item_N, distance_N, weight
        for name, weight in self._fields(problem):
            pair = self._pair(problem, name)
            yield pair.x.item_N, item_losses(self, pair, problem.world), weight

    def statistics(self, tile: Tile) -> Mapping[str, Statistic]:
        return {"lse": LogSumExp(tile.others(tile.logits))}

    def losses(self, anchors: Anchors) -> Tensor:
        """log E e^(−t ‖x − x'‖²) over the keys of each anchor."""
        return anchors.lse - anchors.negatives.clamp(min=1).log() - 2 * self.t

    def loss(self, directions: Sequence[Anchors]) -> Tensor:
        """log E e^(−t ‖x − x'‖²) over all pairs of rows; 0 if there are none."""
        (anchors,) = directions
        pairs = anchors.negatives.sum()
        if not pairs:
            return 0.0 * anchors.scale
        return anchors.lse.logsumexp(dim=0) - pairs.log() - 2 * self.t

    def _align(self, x_Nd: Tensor, y_Nd: Tensor) -> tuple[Tensor, Tensor]:
        """‖x − y‖^α of each pair, and its gradient by x. That by y is its negative."""
        difference_Nd = x_Nd - y_Nd
        distance_N = difference_Nd.norm(dim=1)
        tiny = torch.finfo(distance_N.dtype).tiny
        slope_N = self.alpha * distance_N**self.alpha / distance_N.clamp(min=tiny**0.5).square()
        return distance_N**self.alpha, slope_N[:, None] * difference_Nd

    def _fields(self, problem: Problem) -> Iterator[tuple[str, float]]:
        for name in problem.fields:
            yield name, self.uniformity / len(problem.fields)

    def _pair(self, problem: Problem, name: str) -> Pair:
        """A field against itself."""
        rows = problem.fields[name]
        scale = torch.full_like(problem.scale.reshape(()), 2 * self.t)
        paired = problem.counts.get(name, 1) == 1
        return Pair(rows, rows, scale, None, problem.tile, shares=(1.0, 0.0), paired=paired)

"""Prototypes: a row finds the cluster that another field puts its sample in (ProtoCLIP, Chen et al. 2023).

    L_i = −Σ_k q_ik log p_ik,    p_i = softmax_k(s ⟨z_i, c_k⟩),    q_i = softmax_k(⟨t_y, t_k⟩ / temperature)

c_k are the centroids that rows of the anchor's field are compared with, y is the cluster of the anchor's sample, and
t_k are the centroids of the clusters in the space where they were found, that of the other field. So clusters that the
other field finds alike share the target. With `temperature: 0` the target is the cluster y alone, which the authors use
for the clusters of an external teacher.

A memory may instead say for each row how likely each prototype is. Then q_i is that distribution, as for the classes of
`stored_classes` (CED, Dinkel et al. 2024).

A memory makes centroids and clusters anew from time to time, and both are constants. The loss is 0 as long as it has
none. Anchors whose sample has no cluster, or one without a centroid, have no loss, and clusters without a centroid are
left out of both softmaxes. The loss is the mean over the other anchors, then over the fields, weighted by `directions`.
The scale s is learned, and each term has its own.

Shapes: N rows of all ranks, B items, a anchors of a tile, K clusters, d dimensions, e dimensions of the space of the
clusters.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.problem import LABEL, Problem, Prototypes, Solution
from tercet.models.losses.rows import Rows


class Part(NamedTuple):
    """The anchors of a field that have a loss, which rows of the field they are, and the weight of the field."""

    name: str
    rows: Rows
    among_N: Tensor
    prototypes: Prototypes
    weight: float


class Found(NamedTuple):
    """Some anchors: which rows they are, their losses, and the gradients of the sum of these."""

    at: slice
    loss_a: Tensor
    slope_ad: Tensor
    scale: Tensor


@objective("prototype")
class Prototype(Objective):
    """Each row finds the cluster that another field puts its sample in (ProtoCLIP, Chen et al. 2023)."""

    temperature: Annotated[
        float,
        Field(
            ge=0,
            description="divides the products of the clusters' own centroids; the lower, the more the own cluster "
            "counts; 0: it alone counts",
        ),
    ] = 0.01

    prototypes: ClassVar[bool] = True
    fewest: ClassVar[int] = 1
    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against",)
    probabilities: ClassVar[bool] = False

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        loss, slope = problem.scale.new_zeros(2)
        for name, rows, among_N, prototypes, weight in self._parts(problem):
            share = weight / max(len(rows), 1)
            slope_Ad = torch.zeros_like(rows.z_Ad)
            for found in self._tiles(rows.z_Ad, rows.extra[LABEL][rows.own], prototypes, problem):
                loss, slope = loss + share * found.loss_a.sum(), slope + share * found.scale
                slope_Ad[found.at] = share * found.slope_ad
            whole.rows[name][among_N[problem.fields[name].own]] += slope_Ad
        whole.loss, whole.scale = problem.world.sum(torch.stack([loss, slope]))
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        for _, rows, _, prototypes, weight in self._parts(problem):
            found = [one.loss_a for one in self._tiles(rows.z_Nd, rows.extra[LABEL], prototypes, problem)]
            if found:
                item_B, at_N, count_B = torch.unique(rows.item_N, return_inverse=True, return_counts=True)
                total_B = torch.zeros_like(count_B, dtype=rows.z_Nd.dtype).index_add_(0, at_N, torch.cat(found))
                yield item_B, total_B / count_B, weight

    def _parts(self, problem: Problem) -> Iterator[Part]:
        for name, prototypes in problem.prototypes.items():
            rows = problem.fields[name]
            label_N = rows.extra[LABEL]
            if label_N.ndim == 2:
                among_N = label_N.sum(dim=1) > 0
            else:
                among_N = (label_N >= 0) & prototypes.exists_K[label_N.long().clamp(min=0)]
            weight = problem.shares[name] if problem.shares else 1 / len(problem.fields)
            if weight:
                yield Part(name, rows.pick(among_N), among_N, prototypes, weight)

    def _tiles(self, z_Ad: Tensor, label_A: Tensor, prototypes: Prototypes, problem: Problem) -> Iterator[Found]:
        """The cross entropy of each anchor. ∂L/∂logits = p − q."""
        scale, absent_K = problem.scale.reshape(()), ~prototypes.exists_K
        centroid_Kd = prototypes.centroid_Kd.to(z_Ad)
        for start in range(0, len(z_Ad), problem.tile):
            at = slice(start, start + problem.tile)
            cosine_aK = z_Ad[at] @ centroid_Kd.T
            log_p_aK = torch.log_softmax((scale * cosine_aK).masked_fill(absent_K, -torch.inf), dim=1)
            q_aK = self._targets(label_A[at], prototypes).to(z_Ad)
            loss_a = -(q_aK * log_p_aK.masked_fill(absent_K, 0.0)).sum(dim=1)
            slope_aK = log_p_aK.exp() - q_aK
            yield Found(at, loss_a, scale * (slope_aK @ centroid_Kd), (slope_aK * cosine_aK).sum())

    def _targets(self, label_a: Tensor, prototypes: Prototypes) -> Tensor:
        """`label_a`: the cluster of each anchor, or `[a, K]`, how likely each is."""
        if label_a.ndim == 2:
            return label_a
        if not self.temperature:
            return one_hot(label_a.long(), len(prototypes.exists_K))
        alike_aK = prototypes.teacher_Ke[label_a.long()] @ prototypes.teacher_Ke.T / self.temperature
        return torch.softmax(alike_aK.masked_fill(~prototypes.exists_K, -torch.inf), dim=1)

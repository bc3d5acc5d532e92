"""Structure distillation: rows of a field are as far from each other as a teacher's (ProCLIP, Hu et al. 2025).

    L = Σ_fields 1/(n (n − 1)) Σ_i≠j h(‖z_i − z_j‖ − ‖t_i − t_j‖),    h(x) = x²/2 if |x| ≤ 1, |x| − 1/2 otherwise

n are all rows of a field in the batch, and t a teacher's vectors of them. Only distances are compared, so the teacher's
space may have other dimensions. `feature_distillation` compares the vectors themselves; the paper adds up both.

Where this differs from the authors' code: that adds up the pairs of each GPU's own rows. This is the mean over all
pairs of the whole batch, of all processes, and does not change with its size.

Each rank compares its own rows with all rows, a tile of columns at a time, so no matrix of distances is stored. h is
even, so the gradient of an own row is twice that of its pairs as the first of two. The squares of distances come from
inner products. Without the mean of all rows, which changes no distance, these round less: at first, the rows of a field
are much alike.

The term's temperature is not used.

Shapes: n rows of all ranks, A of them this rank's own, K rows of one tile, d dimensions, e those of the teacher.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from tercet.models.losses.feature_distillation import TEACHER
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import Rows
from tercet.models.losses.unscaled import Unscaled


@objective("structure_distillation")
class StructureDistillation(Unscaled):
    """Makes the rows of a field as far from each other as a teacher's (ProCLIP, Hu et al. 2025)."""

    fewest: ClassVar[int] = 1
    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against", "directions")
    references: ClassVar[tuple[str, ...]] = (TEACHER,)

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        total = problem.scale.new_zeros(())
        for name, rows in centred(problem):
            pairs = max(len(rows) * (len(rows) - 1), 1)
            for loss_AK, slope_AK, z_Kd in tiles(rows, rows.own, problem.tile):
                total = total + loss_AK.sum() / pairs
                # ∂/∂z_i of Σ_j h: each difference z_i − z_j times its slope.
                whole.rows[name] += (slope_AK.sum(dim=1)[:, None] * rows.z_Ad - slope_AK @ z_Kd) * (2 / pairs)
        whole.loss = problem.world.sum(total)
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        """For each field, the mean over the rows of an item of the mean over all other rows."""
        for _, rows in centred(problem):
            everything = slice(0, len(rows))
            loss_n = rows.z_Nd.new_zeros(len(rows))
            for loss_AK, _, _ in tiles(rows, everything, problem.tile):
                loss_n += loss_AK.sum(dim=1) / max(len(rows) - 1, 1)
            items, place_n, count_N = torch.unique(rows.item_N, return_inverse=True, return_counts=True)
            yield items, loss_n.new_zeros(len(items)).index_add_(0, place_n, loss_n) / count_N, 1.0


def centred(problem: Problem) -> Iterator[tuple[str, Rows]]:
    """The rows of each field and the teacher's vectors of them, both without their mean, which all ranks know."""
    for name, rows in problem.fields.items():
        z_nd, taught_ne = (whole - whole.mean(dim=0) for whole in (rows.z_Nd, rows.extra[TEACHER].to(rows.z_Nd)))
        yield name, replace(rows, z_Nd=z_nd, extra={TEACHER: taught_ne})


def tiles(rows: Rows, part: slice, width: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The rows of `part` against all rows: h of each pair of a tile, its derivative by the distance over the distance,
    and the rows of the columns. A row and itself are no pair."""
    taught_ne = rows.extra[TEACHER]
    for start in range(0, len(rows), width):
        columns = slice(start, min(start + width, len(rows)))
        distance_AK = distances(rows.z_Nd[part], rows.z_Nd[columns])
        gap_AK = distance_AK - distances(taught_ne[part], taught_ne[columns])
        own_A = torch.arange(part.start, part.stop, device=gap_AK.device)
        gap_AK[own_A[:, None] == torch.arange(columns.start, columns.stop, device=gap_AK.device)] = 0.0
        loss_AK = smooth_l1_loss(gap_AK, torch.zeros_like(gap_AK), reduction="none")
        slope_AK = torch.where(distance_AK > 0, gap_AK.clamp(-1, 1) / distance_AK, 0.0)
        yield loss_AK, slope_AK, rows.z_Nd[columns]


def distances(x_Ad: Tensor, y_Kd: Tensor) -> Tensor:
    """Euclidean distances `[A, K]`. Those that are within rounding errors of 0 are 0."""
    sums_AK = x_Ad.square().sum(dim=1)[:, None] + y_Kd.square().sum(dim=1)
    squares_AK = torch.addmm(sums_AK, x_Ad, y_Kd.T, alpha=-2)
    return torch.where(squares_AK > 4 * torch.finfo(sums_AK.dtype).eps * sums_AK, squares_AK, 0.0).sqrt()

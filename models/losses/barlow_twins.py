"""Barlow Twins: two views agree in every dimension, and dimensions say different things (Zbontar et al. 2021).

    L = Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij²,    C_ij = 1/N Σ_n x̂_ni ŷ_nj

C is the correlation of the dimensions of two fields over the batch; x̂ has each dimension of x at mean 0 and variance 1.
1e-12 is added to variances, for dimensions that do not vary. No row repels another. BarLIP (Fini et al. 2023) adds this
loss to that of CLIP, through a projector, with weight 0.025.

The means, variances and correlations are those of the whole batch on any number of processes. With several rows an
item, or more than two fields, the loss is the mean over the pairs of rows, as for `align_uniform`.

Where this differs from the papers: rows are unit vectors when their dimensions are standardised; the papers standardise
the output of the projector itself, by batch norm. No item has a loss of its own in the papers; where one is needed, it
is ½ mean_i (x̂_i − ŷ_i)², whose mean over the batch is the mean of 1 − C_ii.

The term's temperature is not used.

Shapes: N pairs of rows of all ranks, A of them this rank's own, d dimensions.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from tercet.distributed import World
from tercet.models.losses.objective import objective
from tercet.models.losses.pairs import positives
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.unscaled import Unscaled

LEAST = 1e-12  # added to variances


@objective("barlow_twins")
class BarlowTwins(Unscaled):
    """Makes the dimensions of two views equal, and each unlike the others (Zbontar et al. 2021; Fini et al. 2023)."""

    redundancy: Annotated[
        float, Field(ge=0, description="λ, the weight of the correlations between different dimensions")
    ] = 5e-3

    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against", "directions")

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        for one, other, x_N, y_N, weight in positives(problem):
            x, y = problem.fields[one], problem.fields[other]
            own_x_N, own_y_N = x_N[x.own], y_N[y.own]
            found = self._solve(x.z_Nd[x_N], y.z_Nd[y_N], x.z_Ad[own_x_N], y.z_Ad[own_y_N], problem.world)
            whole.loss = whole.loss + weight * found.loss
            whole.rows[one][own_x_N] += weight * found.x_Ad
            whole.rows[other][own_y_N] += weight * found.y_Ad
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        for one, other, x_N, y_N, weight in positives(problem):
            x, y = problem.fields[one].pick(x_N), problem.fields[other].pick(y_N)
            if len(x):
                difference_Nd = Dimensions.of(x.z_Nd).standard(x.z_Nd) - Dimensions.of(y.z_Nd).standard(y.z_Nd)
                yield x.item_N, difference_Nd.square().mean(dim=1) / 2, weight

    def _solve(self, x_Nd: Tensor, y_Nd: Tensor, x_Ad: Tensor, y_Ad: Tensor, world: World) -> "Found":
        """Each rank adds the products of its own rows to the correlations."""
        count = len(x_Nd)
        if not count:
            return Found(x_Nd.new_zeros(()), torch.zeros_like(x_Ad), torch.zeros_like(y_Ad))
        of_x, of_y = Dimensions.of(x_Nd), Dimensions.of(y_Nd)
        x_Ad, y_Ad = of_x.standard(x_Ad), of_y.standard(y_Ad)
        c_dd = world.sum(x_Ad.T @ y_Ad / count)
        own_d = c_dd.diagonal().clone()
        c_dd.fill_diagonal_(0.0)  # the many small products round less if the large one is not among them
        lacking_d, squares_dd = own_d - 1, c_dd.square()
        # A step along x̂ itself changes nothing, because x̂ is standardised again: `along` is taken out of the slope.
        along_d, along_y_d = (lacking_d * own_d + self.redundancy * squares_dd.sum(dim=dim) for dim in (1, 0))
        slope_x_Ad = y_Ad * lacking_d - x_Ad * along_d + self.redundancy * (y_Ad @ c_dd.T)
        slope_y_Ad = x_Ad * lacking_d - y_Ad * along_y_d + self.redundancy * (x_Ad @ c_dd)
        return Found(
            lacking_d.square().sum() + self.redundancy * squares_dd.sum(),
            slope_x_Ad * (2 / (count * of_x.deviation_d)).to(x_Ad),
            slope_y_Ad * (2 / (count * of_y.deviation_d)).to(y_Ad),
        )


class Found(NamedTuple):
    """The loss over all ranks, and the gradients of this rank's own rows."""

    loss: Tensor
    x_Ad: Tensor
    y_Ad: Tensor


class Dimensions(NamedTuple):
    """The mean and the standard deviation of each dimension over the rows of all ranks.

    They are in fp64, because at first all rows of a field are much alike: little is left after the mean.
    """

    mean_d: Tensor
    deviation_d: Tensor

    @staticmethod
    def of(z_Nd: Tensor) -> "Dimensions":
        exact_Nd = z_Nd.double()
        return Dimensions(exact_Nd.mean(dim=0), (exact_Nd.var(dim=0, correction=0) + LEAST).sqrt())

    def standard(self, z_nd: Tensor) -> Tensor:
        return ((z_nd - self.mean_d) / self.deviation_d).to(z_nd)

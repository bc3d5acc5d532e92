"""Random feature alignment: all vectors of an item are pulled to one random vector (RaFA, Yamaguchi et al. 2025).

    L = 1/(N d) Σ_i Σ_r ‖f_ir − ε_i‖²,    ε_i ~ N(0, I),    r all rows of item i, in all fields of the term

f are the vectors before normalisation, as in the authors' code. A new ε in each step leaves a mean pull of f to zero,
the same in all fields, so the means of the fields approach each other: the modality gap closes. As the noise of an item
is the same in all fields, they also become alike. On unit vectors the mean pull would have no effect.

This keeps nothing of what the model knows: the paper adds distillation from the model before (HyCD), which is the
objective `soft`.

Where this differs from the authors' code: ε depends only on the seed, the step and the sample, so it does not depend on
processes, micro-batches or where a run resumed.

The term's temperature is not used.

Shapes: A own rows, n rows, N items, d dimensions, u different samples.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tercet.data_pipelines.seeding import keyed
from tercet.errors import UserError
from tercet.modality import of_memory, unnormalised_of
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import items_of
from tercet.models.losses.unscaled import Unscaled
from tercet.models.term_config import TermConfig


@objective("random_alignment")
class RandomAlignment(Unscaled):
    """Pulls all vectors of an item to one random vector: closes the gap (CLIP-Refine, Yamaguchi et al. 2025)."""

    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against", "directions")
    unnormalised: ClassVar[bool] = True

    def check(self, term: TermConfig) -> None:
        super().check(term)
        for name in filter(of_memory, term.between):
            raise UserError(
                f"terms.{term.name}.between: `{term.objective.name}` trains vectors before normalisation, and `{name}` "
                "has none; name fields of the batch only, such as [image, text]"
            )
        if term.projector:
            raise UserError(
                f"terms.{term.name}.projector: `{term.objective.name}` trains vectors of the joint space; remove it"
            )

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        items = max(len(items_of(problem.unnormalised.values())), 1)
        total = problem.scale.new_zeros(())
        for name, rows in problem.unnormalised.items():
            difference_Ad = rows.z_Ad - random_vectors(problem.seed, rows.id_N[rows.own], rows.z_Ad)
            share = 1 / (items * difference_Ad.shape[1])
            total = total + share * difference_Ad.square().sum()
            whole.rows[unnormalised_of(name)] += 2 * share * difference_Ad
        whole.loss = problem.world.sum(total)
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        items = items_of(problem.unnormalised.values())
        loss_N = problem.scale.new_zeros(len(items))
        for rows in problem.unnormalised.values():
            squared_nd = (rows.z_Nd - random_vectors(problem.seed, rows.id_N, rows.z_Nd)).square()
            loss_N.index_add_(0, torch.searchsorted(items, rows.item_N), squared_nd.mean(dim=1).to(loss_N))
        yield items, loss_N, 1.0


def random_vectors(seed: int, id_n: Tensor, like_nd: Tensor) -> Tensor:
    """A standard normal vector for each row, the same for all rows of a sample."""
    id_u, place_n = np.unique(id_n.cpu().numpy(), return_inverse=True)
    drawn_ud = np.zeros((len(id_u), like_nd.shape[1]))
    for place, sample in enumerate(id_u.tolist()):
        drawn_ud[place] = keyed("random alignment", seed, item=sample).standard_normal(like_nd.shape[1])
    return torch.from_numpy(drawn_ud[place_n]).to(like_nd)

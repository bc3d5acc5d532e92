"""Feature distillation: each vector is pulled to a teacher's vector of the same row (CLIP-KD, Yang et al. 2024).

    L = 1/N Σ_i Σ_r ‖z_ir − teacher_ir‖²    r all rows of item i, in all fields of the term

If the teacher is a momentum encoder, this is the self-distillation of DeGLA (Hu et al. 2025), by which fine-tuning
forgets less. Their code sums over the items of a batch instead: at a batch of 256, their weight of 0.005 is 1.28 here.

Where this differs from CLIP-KD: that adds a projection if the teacher has other dimensions, which is refused here.

The term's temperature is not used.

Shapes: N rows of all ranks, A of them this rank's own, d dimensions.
"""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import items_of
from tercet.models.losses.unscaled import Unscaled

TEACHER = "teacher"


@objective("feature_distillation")
class FeatureDistillation(Unscaled):
    """Pulls each vector to a teacher's vector of the same row (CLIP-KD, Yang et al. 2024; DeGLA, Hu et al. 2025)."""

    fewest: ClassVar[int] = 1
    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against", "directions")
    references: ClassVar[tuple[str, ...]] = (TEACHER,)

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        items = max(len(items_of(problem.fields.values())), 1)
        for name, difference_Nd in self._differences(problem):
            whole.loss = whole.loss + difference_Nd.square().sum() / items
            whole.rows[name] += difference_Nd[problem.fields[name].own] * (2 / items)
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        items = items_of(problem.fields.values())
        loss_N = problem.scale.new_zeros(len(items))
        for name, difference_Nd in self._differences(problem):
            place_N = torch.searchsorted(items, problem.fields[name].item_N)
            loss_N.index_add_(0, place_N, difference_Nd.square().sum(dim=1).to(loss_N))
        yield items, loss_N, 1.0

    def _differences(self, problem: Problem) -> Iterator[tuple[str, Tensor]]:
        """By field, every row's vector minus the teacher's. All ranks have all rows, so they exchange nothing."""
        for name, rows in problem.fields.items():
            taught_Nd = rows.extra[TEACHER]
            if taught_Nd.shape != rows.z_Nd.shape:
                raise UserError(
                    f"the teacher's vectors of `{name}` have {taught_Nd.shape[1]} dimensions, but the joint space has "
                    f"{rows.z_Nd.shape[1]}; set model.dim to that of the teacher, or use the objective soft"
                )
            yield name, rows.z_Nd - taught_Nd.to(rows.z_Nd)

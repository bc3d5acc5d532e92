"""Masked prediction: a picture with hidden patches predicts, patch by patch, what an average of the model makes of the
whole picture (iBOT, Zhou et al. 2022; SigLIP 2, Tschannen et al. 2025).

Each patch is compared as a row is in `self_distillation`, with the same loss, centre and temperatures: the token of the
masked picture is the student's, the token at the same place of the whole picture is the teacher's. The loss is the mean
over all patches of all pictures.

Where this differs from the papers: all patches count, also those that are not hidden; and hidden patches are grey, not
a learned token.

Shapes: n pictures of all ranks, L patches, K prototypes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from tercet.errors import UserError
from tercet.modality import tokens_of
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import Rows
from tercet.models.losses.self_distillation import SelfDistillation

SIDES = STUDENT, TEACHER = "student", "teacher"


@objective("masked_prediction")
class MaskedPrediction(SelfDistillation):
    """Masked pictures predict the patches of whole ones by a momentum encoder (iBOT, Zhou et al. 2022)."""

    memory_tokens: ClassVar[bool] = True
    gathered: ClassVar[bool] = True  # so that a rank without pictures knows the number of patches

    def tokens(self, between: Sequence[str]) -> Sequence[str]:
        return between

    def solve(self, problem: Problem) -> Solution:
        whole, found = Solution.empty(problem), super().solve(by_patch(problem))
        rows_nLK = whole.rows[tokens_of(next(iter(problem.fields)))]
        rows_nLK += found.rows[STUDENT].view_as(rows_nLK)
        return replace(found, rows=whole.rows)

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        """The loss of an item is the mean over its patches."""
        patches = patches_of(problem)
        for patch, loss_p, weight in super().losses_of_items(by_patch(problem)):
            item, index_p = torch.unique(patch // patches, return_inverse=True)
            yield item, loss_p.new_zeros(len(item)).index_add_(0, index_p, loss_p) / patches, weight


def patches_of(problem: Problem) -> int:
    """The number of patches, which is the same for both sides."""
    student, teacher = (rows.z_Nd.shape[1] for rows in problem.tokens.values())
    if student != teacher:
        first, second = problem.tokens
        raise UserError(f"`{first}` has {student} patches and `{second}` {teacher}; give both pictures one `size`")
    return student


def by_patch(problem: Problem) -> Problem:
    """The same with a row and an item for each patch, in place of the vectors of pictures."""
    count = patches_of(problem)
    fields = {name: flat(rows, count) for name, rows in zip(SIDES, problem.tokens.values(), strict=True)}
    return replace(problem, fields=fields, tokens={}, counts={})


def flat(rows: Rows, count: int) -> Rows:
    place_P = torch.arange(count, device=rows.item_N.device).repeat(len(rows))
    item_P, group_P, id_P = (each.repeat_interleave(count) for each in (rows.item_N, rows.group_N, rows.id_N))
    own = slice(rows.own.start * count, rows.own.stop * count)
    return Rows(rows.z_Nd.flatten(0, 1), own, item_P * count + place_P, group_P, id_P)

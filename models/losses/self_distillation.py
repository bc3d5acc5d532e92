"""Self-distillation: small crops of a picture predict what an average of the model makes of the whole picture (DINO,
Caron et al. 2021; SILC, Naeem et al. 2024).

Rows are the outputs of a projector with K prototypes: the cosines of a row and each prototype. r is a row of the first
field, the student's, and t one of the second field of the same item, from a momentum encoder:

    L_i = mean over pairs (r, t) of −Σ_k p_tk log q_rk,    p_t = softmax((t − c) / τ_t),    q_r = softmax(s r)

The loss is the mean over the items that have a pair. If both fields are the same one, rows of equal number show the
same crop and are no pair. c, the centre, is the moving average of the mean of all t; it stops one prototype from
winning everywhere. A low τ_t, which sharpens p, stops all prototypes from winning alike. τ_t goes linearly from the
first to the second of `teacher_temperature`, in the first `warmup` of the stage. Teacher, centre and τ_t are constants.

Rows of different items are never compared, so the output of the projector is not gathered: a rank keeps its own rows.
A step exchanges the sums of K numbers, a few times.

SILC does not publish code. Here the student sees what the first field holds; SILC's are local crops only, DINO's also
the global ones. The centre is over the rows of all ranks, as in DINO, and a step uses the one from before it.

`information` is the mutual information of a row of the teacher and its prototype, H(mean p) − mean H(p), as a share of
the log of the smaller one of K and the number of rows. It is near 0 if all rows have the same p, so if the features
collapsed, whether to one prototype or to all alike. `entropy` is H(mean p) / log K. `teacher_std` is the mean standard
deviation of the teacher's outputs over its rows.

Shapes: n student's rows of this rank, m teacher's rows of this rank, a rows of a tile, I items of this rank that have
rows of the teacher, K prototypes.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.special import entr

from tercet.distributed import World
from tercet.errors import UserError
from tercet.modality import field_behind, of_memory
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import Rows
from tercet.models.term_config import TermConfig

CENTRE, INFORMATION = "centre", "information"
MOST_ROWS = 64  # that an item may have of a field


@objective("self_distillation")
class SelfDistillation(Objective):
    """Crops predict the prototypes of other crops by a momentum encoder (DINO, Caron et al. 2021; SILC, Naeem et al.
    2024)."""

    teacher_temperature: Annotated[
        tuple[float, float],
        Field(description="τ_t, which divides the teacher's outputs: at first, and after the warm-up; both above 0"),
    ] = (0.04, 0.07)
    warmup: Annotated[
        float, Field(ge=0, le=1, description="the share of the stage in which the teacher's temperature changes")
    ] = 0.3
    momentum: Annotated[float, Field(ge=0, lt=1, description="share of earlier steps in the centre")] = 0.9
    scale: Annotated[
        float, Field(description="1 / τ_s of the student; not learned, so change both `bounds` with it")
    ] = 10.0
    bounds: Annotated[
        tuple[float, float], Field(description="limits of the inverse temperature; it stays fixed if they are equal")
    ] = (10.0, 10.0)

    probabilities: ClassVar[bool] = False
    refused: ClassVar[tuple[str, ...]] = ("against", "directions")
    may_read_cosines: ClassVar[bool] = True
    gathered: ClassVar[bool] = False

    @property
    def averages(self) -> Mapping[str, float]:
        return {CENTRE: 0.0}

    def check(self, term: TermConfig) -> None:
        if len(term.between) != 2 or of_memory(term.between[0]) or not of_memory(term.between[1]):
            raise UserError(
                f"terms.{term.name}.between: `{term.objective.name}` needs a field and one of a momentum encoder, in "
                "this order, such as [image.local, momentum.image]"
            )
        super().check(term)
        if min(self.teacher_temperature) <= 0:
            first, last = self.teacher_temperature
            raise UserError(
                f"terms.{term.name}.objective.teacher_temperature is [{first:g}, {last:g}]; give two numbers above 0"
            )

    def solve(self, problem: Problem) -> Solution:
        whole, pairs = Solution.empty(problem), self._pairs(problem)
        items = problem.world.sum(pairs.items).clamp(min=1)
        loss, slope = problem.scale.new_zeros(2)
        rows_nK = whole.rows[next(iter(problem.fields))]
        for found in pairs.tiles(problem.scale.reshape(()), problem.tile):
            rows_nK[found.at] = found.slope_aK / items
            loss, slope = loss + found.loss_a.sum(), slope + found.scale
        whole.loss, whole.scale = problem.world.sum(torch.stack([loss, slope])) / items
        whole.averages, whole.measures = self._averages(problem, pairs)
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        pairs = self._pairs(problem)
        found = [found.loss_a for found in pairs.tiles(problem.scale.reshape(()), problem.tile)]
        loss_n = torch.cat([problem.scale.new_zeros(0), *found])
        paired_n = pairs.count_n > 0
        item, index_n = torch.unique(pairs.student.item_N[paired_n], return_inverse=True)
        loss = loss_n.new_zeros(len(item)).index_add_(0, index_n, loss_n[paired_n])
        yield of_all_ranks(item, problem.world), of_all_ranks(loss, problem.world), 1.0

    def temperature(self, progress: float) -> float:
        """τ_t when this share of the stage is done."""
        first, last = self.teacher_temperature
        return last + (first - last) * max(1 - progress / self.warmup, 0.0) if self.warmup else last

    def _pairs(self, problem: Problem) -> "Pairs":
        (name, student), (other, teacher) = problem.fields.items()
        student, teacher = student.cut(student.own), teacher.cut(teacher.own)
        centred_mK = teacher.z_Nd - problem.averages[CENTRE].to(teacher.z_Nd)
        p_mK = torch.softmax(centred_mK / self.temperature(problem.progress), dim=1)
        return Pairs.of(student, teacher, p_mK, same=name == field_behind(other))

    def _averages(self, problem: Problem, pairs: "Pairs") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The new centre, and the measures of the teacher's outputs."""
        t_mK, p_mK = pairs.teacher.z_Nd, pairs.p_mK
        sums = [t_mK.sum(dim=0), t_mK.square().sum(dim=0), p_mK.sum(dim=0), entr(p_mK).sum().reshape(1)]
        total = problem.world.sum(torch.cat([*sums, t_mK.new_tensor([float(len(t_mK))])]))
        count, k = float(total[-1]), t_mK.shape[1]
        if not count:
            return dict(problem.averages), {}
        mean_K, square_K, p_K, entropy_1, _ = (total / count).split_with_sizes([k, k, k, 1, 1])
        centre_K = mean_K.lerp(problem.averages[CENTRE].to(mean_K).expand_as(mean_K), self.momentum)
        mixed = entr(p_K).sum()
        return {CENTRE: centre_K}, {
            INFORMATION: (mixed - entropy_1.squeeze()) / math.log(max(min(k, count), 2)),
            "entropy": mixed / math.log(max(k, 2)),
            "teacher_std": (square_K - mean_K.square()).clamp(min=0).sqrt().mean(),
        }


class Found(NamedTuple):
    """Some rows of the student: which they are, their losses, and the gradients of the sum of these."""

    at: slice
    loss_a: Tensor
    slope_aK: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Pairs:
    """The rows of this rank, and which of them are compared.

    `p_mK` are the teacher's probabilities, and `target_IK` their sums over the rows of an item. For each row of the
    student, `item_n` is the place of its item in these, `match_n` the row of the teacher with the same crop if
    `matched_n`, `count_n` the number of its pairs, and `share_n` 1 / the number of pairs of its item.
    """

    student: Rows
    teacher: Rows
    p_mK: Tensor
    target_IK: Tensor
    item_n: Tensor
    match_n: Tensor
    matched_n: Tensor
    count_n: Tensor
    share_n: Tensor

    @staticmethod
    def of(student: Rows, teacher: Rows, p_mK: Tensor, same: bool) -> "Pairs":
        item_I, index_m, rows_I = torch.unique(teacher.item_N, return_inverse=True, return_counts=True)
        target_IK = p_mK.new_zeros(len(item_I), p_mK.shape[1]).index_add_(0, index_m, p_mK)
        item_n, known_n = places(item_I, student.item_N)
        match_n, matched_n = places(crops(teacher), crops(student))
        matched_n &= same
        count_n = torch.where(known_n, rows_I[item_n] if len(rows_I) else 0, 0) - matched_n.long()
        pairs_I = torch.zeros_like(rows_I).index_add_(0, item_n[known_n], count_n[known_n])
        paired_n = count_n > 0
        share_n = p_mK.new_zeros(len(student))
        share_n[paired_n] = 1 / pairs_I[item_n[paired_n]].to(share_n)
        return Pairs(student, teacher, p_mK, target_IK, item_n, match_n, matched_n, count_n, share_n)

    @property
    def items(self) -> Tensor:
        """How many items of this rank have a pair."""
        return (self.count_n * self.share_n).sum().round()

    def tiles(self, scale: Tensor, rows: int) -> Iterator[Found]:
        """The cross entropies of the student's rows. ∂L/∂logits = count · q − target."""
        for start in range(0, len(self.student), rows):
            at = slice(start, start + rows)
            z_aK, share_a1 = self.student.z_Nd[at], self.share_n[at, None]
            target_aK, count_a1 = self._target(at), self.count_n[at, None]
            log_q_aK = torch.log_softmax(scale * z_aK, dim=1)
            slope_aK = share_a1 * (count_a1 * log_q_aK.exp() - target_aK)
            loss_a = -(share_a1 * target_aK * log_q_aK).sum(dim=1)
            yield Found(at, loss_a, scale * slope_aK, (slope_aK * z_aK).sum())

    def _target(self, at: slice) -> Tensor:
        """The sum of the teacher's probabilities over the pairs of each row; of no use where there are none."""
        if not len(self.teacher):
            return torch.zeros_like(self.student.z_Nd[at])
        own_aK = self.p_mK[self.match_n[at]].masked_fill(~self.matched_n[at, None], 0.0)
        return self.target_IK[self.item_n[at]] - own_aK


def crops(rows: Rows) -> Tensor:
    """One number for each item and row number. Rows are in the order of their items, so these are sorted."""
    return rows.item_N * MOST_ROWS + rows.number_N


def places(among_I: Tensor, wanted_n: Tensor) -> tuple[Tensor, Tensor]:
    """Where each value is among these sorted ones, and whether it is there."""
    if not len(among_I):
        return torch.zeros_like(wanted_n), torch.zeros_like(wanted_n, dtype=torch.bool)
    place_n = torch.searchsorted(among_I, wanted_n).clamp(max=len(among_I) - 1)
    return place_n, among_I[place_n] == wanted_n


def of_all_ranks(values_n: Tensor, world: World) -> Tensor:
    """The values of all ranks, which may have different numbers of them."""
    if world.size == 1:
        return values_n
    most = world.max(len(values_n))
    padded_b = values_n.new_zeros(most)
    padded_b[: len(values_n)] = values_n
    counts = world.gather(torch.tensor([len(values_n)], device=values_n.device))
    exists_N = torch.arange(most, device=values_n.device) < counts[:, None]
    return world.gather(padded_b)[exists_N.flatten()]

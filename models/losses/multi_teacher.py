"""Distillation from several teachers, through a projector of its own for each (UNIC, Sariyildiz et al. 2024).

x_rt is what the projector for teacher t makes of row r, and y_rt the teacher's vector of the same row, standardised:
less its mean, over its standard deviation, dimension by dimension. All rows of all fields of the term count.

    l_rt = cosine · (1 − cos(x_rt, y_rt)) + (1 − cosine) · mean over dimensions of smooth L1(x_rt − y_rt)
    L    = Σ k_rt l_rt / Σ k_rt

k is teacher dropping. For each row the teacher with the largest loss has k = 1, and every other one 0 with the
probability `drop`, else 1. So no teacher that is easy to imitate wins the row. Standardising makes the teachers alike
in scale; means and deviations are moving averages over the steps, which include the batch, of a share that falls from
`1 − momentum[0]` to `1 − momentum[1]` along half a cosine over the stage. Both options and the loss are those of the
authors' code.

Where this differs from the paper: the student is compared by its pooled output, where they also compare each patch, and
the projectors read the last layer, where theirs are ladders that add what MLPs make of every block. A teacher's vector
is the one of its joint space, of length 1, before it is standardised. Which teachers are dropped depends on the step
and the row alone. Evaluation does not use the projectors.

The term's temperature is not used.

Shapes: N rows of all ranks, A of them this rank's own, T teachers, D dimensions of all teachers together.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity, smooth_l1_loss

from tercet.data_pipelines.seeding import uniforms
from tercet.errors import UserError
from tercet.modality import of_memory
from tercet.models.losses.objective import objective
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import items_of
from tercet.models.losses.unscaled import Unscaled
from tercet.models.term_config import TermConfig

SMALLEST = 1e-6  # standard deviation
MEAN, DEVIATION = "mean", "deviation"


@objective("multi_teacher")
class MultiTeacher(Unscaled):
    """Imitates several teachers, each through its own projector (UNIC, Sariyildiz et al. 2024)."""

    cosine: Annotated[
        float, Field(ge=0, le=1, description="weight of the cosine; the smooth L1 distance has the rest")
    ] = 0.5
    drop: Annotated[
        float,
        Field(
            ge=0, lt=1, description="probability that a teacher is left out of a row, if its loss is not the largest"
        ),
    ] = 0.5
    momentum: Annotated[
        tuple[float, float],
        Field(description="share of earlier steps in means and deviations: in the first step, and at the end"),
    ] = (0.0, 0.999)

    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against", "directions")
    fewest: ClassVar[int] = 1
    free_references: ClassVar[bool] = True

    @property
    def averages(self) -> Mapping[str, float]:
        return {MEAN: 0.0, DEVIATION: 1.0}

    def check(self, term: TermConfig) -> None:
        super().check(term)
        if any(map(of_memory, term.between)):
            raise UserError(
                f"terms.{term.name}.between: `{term.objective.name}` takes fields of the batch alone; name the memory "
                "in `references`"
            )
        first, last = self.momentum
        if not (0 <= first < 1 and 0 <= last < 1):
            raise UserError(
                f"terms.{term.name}.objective.momentum is [{first:g}, {last:g}]; give two numbers from 0 to below 1"
            )

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        target, whole.averages = self._standardised(problem)
        losses = {name: self._losses(problem, rows.z_Nd, target[name]) for name, rows in problem.fields.items()}
        kept = {name: self._kept(problem, name, loss_NT) for name, loss_NT in losses.items()}
        count = max(sum(float(kept_NT.sum()) for kept_NT in kept.values()), 1.0)
        for name, rows in problem.fields.items():
            whole.loss = whole.loss + (kept[name] * losses[name]).sum() / count
            with torch.enable_grad():
                x_AD = rows.z_Ad.detach().requires_grad_()
                own = (kept[name][rows.own] * self._losses(problem, x_AD, target[name][rows.own])).sum() / count
            whole.rows[name] += torch.autograd.grad(own, x_AD)[0]
        whole.measures = self._measures(problem, torch.cat([*losses.values()]), torch.cat([*kept.values()]))
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        target, _ = self._standardised(problem)
        items = items_of(problem.fields.values())
        loss, count = problem.scale.new_zeros(2, len(items))
        for name, rows in problem.fields.items():
            loss_NT = self._losses(problem, rows.z_Nd, target[name])
            kept_NT = self._kept(problem, name, loss_NT)
            place_N = torch.searchsorted(items, rows.item_N)
            loss.index_add_(0, place_N, (kept_NT * loss_NT).sum(dim=1).to(loss))
            count.index_add_(0, place_N, kept_NT.sum(dim=1).to(loss))
        yield items, loss * len(items) / count.sum().clamp(min=1), 1.0

    def momentum_at(self, progress: float) -> float:
        """The share of earlier steps when this share of the stage is done."""
        first, last = self.momentum
        return last - (last - first) * (1 + math.cos(math.pi * progress)) / 2

    def _standardised(self, problem: Problem) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The teachers' vectors side by side, by field, and the new moving averages, with a row for each field."""
        target: dict[str, Tensor] = {}
        means, deviations = [], []
        for place, (name, rows) in enumerate(problem.fields.items()):
            y_ND = torch.cat([rows.extra[teacher] for teacher in problem.references], dim=1).to(rows.z_Nd)
            mean_D, deviation_D = (
                before[place].to(y_ND) if before.ndim else before.to(y_ND).expand(y_ND.shape[1])
                for before in (problem.averages[MEAN], problem.averages[DEVIATION])
            )
            if len(y_ND):
                momentum = self.momentum_at(problem.progress)
                mean_D = y_ND.mean(dim=0).lerp(mean_D, momentum)
                deviation_D = y_ND.std(dim=0, correction=0).lerp(deviation_D, momentum)
            target[name] = (y_ND - mean_D) / deviation_D.clamp(min=SMALLEST)
            means.append(mean_D)
            deviations.append(deviation_D)
        return target, {MEAN: torch.stack(means), DEVIATION: torch.stack(deviations)}

    def _losses(self, problem: Problem, x_ND: Tensor, y_ND: Tensor) -> Tensor:
        """The loss of each row and teacher `[N, T]`."""
        rows = next(iter(problem.fields.values()))
        widths = {teacher: rows.extra[teacher].shape[1] for teacher in problem.references}
        if x_ND.shape[1] != sum(widths.values()):
            raise UserError(
                f"the outputs of the term have {x_ND.shape[1]} dimensions, and the vectors of its teachers "
                f"{' + '.join(map(str, widths.values()))}; set projector.teachers of the term to "
                f"{{{', '.join(f'{name}: {width}' for name, width in widths.items())}}}"
            )
        parts, at = [], 0
        for width in widths.values():
            x_Nd, y_Nd = x_ND[:, at : at + width], y_ND[:, at : at + width]
            apart_N = smooth_l1_loss(x_Nd, y_Nd, reduction="none").mean(dim=1)
            parts.append(self.cosine * (1 - cosine_similarity(x_Nd, y_Nd)) + (1 - self.cosine) * apart_N)
            at += width
        return torch.stack(parts, dim=1)

    def _kept(self, problem: Problem, name: str, loss_NT: Tensor) -> Tensor:
        """k, as numbers."""
        rows = problem.fields[name]
        item_N, number_N = rows.item_N.cpu().numpy(), rows.number_N.cpu().numpy()
        drawn_NT = uniforms(f"teachers of {name}", problem.seed, number_N, item_N, loss_NT.shape[1])
        kept_NT = torch.from_numpy(drawn_NT >= self.drop).to(loss_NT)
        return kept_NT.scatter_(1, loss_NT.argmax(dim=1, keepdim=True), 1.0)

    def _measures(self, problem: Problem, loss_NT: Tensor, kept_NT: Tensor) -> dict[str, Tensor]:
        """The loss of each teacher, also where it is dropped, and the share of rows that it is kept in."""
        if not len(loss_NT):
            return {}
        return {
            f"{teacher}/{name}": value_T[place]
            for name, value_T in (("loss", loss_NT.mean(dim=0)), ("kept", kept_NT.mean(dim=0)))
            for place, teacher in enumerate(problem.references)
        }

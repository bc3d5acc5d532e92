"""Lists: each anchor has candidates of its own with numbers, such as graded captions of a picture.

An anchor is compared with its own candidates only, whose similarities give it a distribution P = softmax(s · cosines).

    listwise      KL(T ‖ P), T = softmax(numbers / temperature): distillation of a ranking model's scores, such as those
                  of a cross-encoder, into embeddings (Tamber et al. 2025)
    graded_list   W₁(T, P) = Σ_r |F_T(r) − F_P(r)|, F the cumulative distributions over the candidates by grade, times
                  the distance to the next grade: the Wasserstein distance between P and the target over grades
                  (Esfandiarpoor et al. 2025)

Both are written from the abstracts, which do not say which temperature is used, whether lists are shared in a batch,
how grades are spaced, and which Wasserstein distance is meant. Here a list belongs to its anchor, T of `graded_list` is
the softmax of the grades, and equal grades count as one.

The loss is the mean over all anchors with two or more candidates. No matrix between items is formed, so memory is
linear in the number of candidates.

Shapes: n anchors of this rank, k of its candidates, C candidates of an anchor at most, d dimensions.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from tercet.errors import UserError
from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.problem import Problem, Solution


class OfLists(Objective):
    """The first field of the term are the anchors, the second has their candidates."""

    refused: ClassVar[tuple[str, ...]] = ("against", "directions")

    @abstractmethod
    def list_losses(self, logits_nC: Tensor, numbers_nC: Tensor, exists_nC: Tensor) -> Tensor:
        """The loss of each list `[n]`. At candidates that do not exist, logits are −inf and numbers 0."""

    def solve(self, problem: Problem) -> Solution:
        found = Solution.empty(problem)
        (one, anchors), (other, candidates) = problem.fields.items()
        if "number" not in candidates.extra:
            raise UserError(f"the rows of `{other}` have no numbers. Give its field a `number`, such as number: grade")
        anchor_n, place_nC = self._lists(problem)
        lists = problem.world.sum(torch.tensor(float(len(anchor_n)), device=problem.scale.device))
        x_nd = anchors.z_Ad[anchor_n].requires_grad_()
        y_kd = candidates.z_Ad.clone().requires_grad_()
        scale = problem.scale.detach().reshape(()).requires_grad_()
        exists_nC = place_nC >= 0
        numbers_nC = candidates.extra["number"][candidates.own][place_nC].masked_fill(~exists_nC, 0.0)
        with torch.enable_grad():
            cosines_nC = torch.einsum("nd,nCd->nC", x_nd, y_kd[place_nC])
            logits_nC = (scale * cosines_nC).masked_fill(~exists_nC, -torch.inf)
            loss = self.list_losses(logits_nC, numbers_nC.to(logits_nC), exists_nC).sum() / lists.clamp(min=1)
        x_slope_nd, y_slope_kd, slope = torch.autograd.grad(loss, (x_nd, y_kd, scale))
        found.loss, found.scale = problem.world.sum(torch.stack([loss.detach(), slope]))
        found.rows[one].index_add_(0, anchor_n, x_slope_nd)
        found.rows[other] += y_slope_kd
        return found

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        raise UserError("lists have no loss of an item that a selection could use; choose another selection rule")

    def _lists(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """This rank's anchors with two or more candidates, and the places of these `[n, C]`; −1 where there is none."""
        anchors, candidates = problem.fields.values()
        item_n, item_k = anchors.item_N[anchors.own], candidates.item_N[candidates.own]
        number_k = candidates.number_N[candidates.own]
        first_k = torch.searchsorted(item_n, item_k).clamp(max=max(len(item_n) - 1, 0))
        owned_k = item_n[first_k] == item_k if len(item_n) else torch.zeros_like(item_k, dtype=torch.bool)
        longest = int(number_k.max()) + 1 if len(number_k) else 1
        place_nC = torch.full((len(item_n), longest), -1, device=item_n.device)
        place_nC[first_k[owned_k], number_k[owned_k]] = torch.nonzero(owned_k).flatten()
        anchor_n = torch.nonzero((place_nC >= 0).sum(dim=1) > 1).flatten()
        return anchor_n, place_nC[anchor_n]


@objective("listwise")
class Listwise(OfLists):
    """Distils the scores of a ranking model over an anchor's own candidates (Tamber et al. 2025)."""

    temperature: Annotated[
        float, Field(gt=0, description="divides the scores; the lower, the more the best candidates count")
    ] = 1.0

    def list_losses(self, logits_nC: Tensor, numbers_nC: Tensor, exists_nC: Tensor) -> Tensor:
        target_nC, log_target_nC = targets(numbers_nC, exists_nC, self.temperature)
        gap_nC = (log_target_nC - torch.log_softmax(logits_nC, dim=1)).masked_fill(~exists_nC, 0.0)
        return (target_nC * gap_nC).sum(dim=1)


@objective("graded_list")
class GradedList(OfLists):
    """Ranks an anchor's own candidates by grade, by the Wasserstein distance (Esfandiarpoor et al. 2025)."""

    temperature: Annotated[
        float, Field(gt=0, description="divides the grades; the lower, the more the best candidates count")
    ] = 1.0

    def list_losses(self, logits_nC: Tensor, numbers_nC: Tensor, exists_nC: Tensor) -> Tensor:
        target_nC, _ = targets(numbers_nC, exists_nC, self.temperature)
        best_n = numbers_nC.masked_fill(~exists_nC, -torch.inf).amax(dim=1, keepdim=True)
        grade_nC, order_nC = torch.where(exists_nC, numbers_nC, best_n).sort(dim=1)
        difference_nC = (target_nC - torch.softmax(logits_nC, dim=1)).gather(1, order_nC).cumsum(dim=1)
        return (difference_nC[:, :-1].abs() * grade_nC.diff(dim=1)).sum(dim=1)


def targets(numbers_nC: Tensor, exists_nC: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The softmax of the numbers over the candidates that exist, and its logarithm."""
    log_target_nC = torch.log_softmax((numbers_nC / temperature).masked_fill(~exists_nC, -torch.inf), dim=1)
    return log_target_nC.exp(), log_target_nC

"""SwAV: a view predicts which prototypes another view of its item is assigned to (Caron et al. 2020).

    L_n = −Σ_k q_nk log p_nk,    p_n = softmax_k(s ⟨x_n, c_k⟩),    q = Sinkhorn(e^(⟨y, c⟩ / ε))

The prototypes c are learned: they are the last layer of the term's projector (`projector: {prototypes: 3000}`), so the
rows are cosines with them. q assigns the rows of the other field to them, so that all prototypes get the same share of
the batch: the exponentials are divided in turn by their sums over the batch and over the prototypes, `iterations`
times. q is a constant. SwALIP (Fini et al. 2023) takes a picture and its caption as the two views.

Assignments are those of the whole batch on any number of processes. With several rows an item, or more than two fields,
the loss is the mean over the pairs of rows, as for `align_uniform`.

Where this differs from SwAV: there is no queue of earlier rows, which the authors add for small batches, and prototypes
are not frozen at first. The scale is fixed by default, as theirs; SwALIP learns it, as `bounds` allows.

Shapes: N pairs of rows of all ranks, A of them this rank's own, K prototypes.
"""

from collections.abc import Iterator
from math import log
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from tercet.models.losses.objective import Objective, objective
from tercet.models.losses.pairs import positives
from tercet.models.losses.problem import Problem, Solution
from tercet.models.losses.rows import Rows


@objective("swav")
class Swav(Objective):
    """Each row predicts the prototypes that another view of its item is assigned to (Caron et al. 2020)."""

    scale: Annotated[float, Field(description="the inverse temperature of predictions")] = 10.0
    bounds: Annotated[
        tuple[float, float], Field(description="limits of the inverse temperature; it stays fixed if they are equal")
    ] = (10.0, 10.0)
    epsilon: Annotated[
        float, Field(gt=0, description="ε, the temperature of assignments: the lower, the fewer prototypes share a row")
    ] = 0.05
    iterations: Annotated[
        int, Field(ge=1, description="how often the assignments are evened out over the batch and the prototypes")
    ] = 3

    beyond_two: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("against",)
    probabilities: ClassVar[bool] = False
    reads_cosines: ClassVar[bool] = True

    def solve(self, problem: Problem) -> Solution:
        whole = Solution.empty(problem)
        scale = problem.scale.reshape(())
        loss, slope = problem.scale.new_zeros(2)
        for name, anchors, chosen_N, q_NK, weight in self._directions(problem):
            own_N, share = chosen_N[anchors.own], weight / max(len(q_NK), 1)
            cosine_AK, q_AK = anchors.z_Ad[own_N], q_NK[anchors.pick(chosen_N).own]
            log_p_AK = torch.log_softmax(scale * cosine_AK, dim=1)
            slope_AK = log_p_AK.exp() - q_AK
            loss, slope = loss - share * (q_AK * log_p_AK).sum(), slope + share * (slope_AK * cosine_AK).sum()
            whole.rows[name][own_N] += share * scale * slope_AK
        whole.loss, whole.scale = problem.world.sum(torch.stack([loss, slope]))
        return whole

    def losses_of_items(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor, float]]:
        for _, anchors, chosen_N, q_NK, weight in self._directions(problem):
            rows = anchors.pick(chosen_N)
            log_p_NK = torch.log_softmax(problem.scale.reshape(()) * rows.z_Nd, dim=1)
            yield rows.item_N, -(q_NK * log_p_NK).sum(dim=1), weight

    def _directions(self, problem: Problem) -> Iterator[tuple[str, Rows, Tensor, Tensor, float]]:
        """The name of the anchors, their field, which of its rows they are, what they predict, and their weight."""
        for one, other, x_N, y_N, weight in positives(problem):
            x, y = problem.fields[one], problem.fields[other]
            sides = ((one, x, x_N, y.z_Nd[y_N]), (other, y, y_N, x.z_Nd[x_N]))
            for name, anchors, chosen_N, target_NK in sides:
                share = problem.shares[name] * len(problem.fields) / 2 if problem.shares else 0.5
                if share:
                    yield name, anchors, chosen_N, self._assigned(target_NK), weight * share

    def _assigned(self, cosine_NK: Tensor) -> Tensor:
        """Sinkhorn's algorithm on logarithms. Each row of the result adds up to 1."""
        log_q_NK = cosine_NK / self.epsilon
        for _ in range(self.iterations if len(cosine_NK) else 0):
            log_q_NK = log_q_NK - log_q_NK.logsumexp(dim=0) - log(cosine_NK.shape[1])
            log_q_NK = log_q_NK - log_q_NK.logsumexp(dim=1, keepdim=True)
        return log_q_NK.exp()

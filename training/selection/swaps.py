"""Swaps: replaces chosen samples by better ones of their stratum, as long as the whole batch gets better.

The score of a batch is the mean over its samples, each compared with all others of the batch. A sweep pairs the chosen
samples with the lowest scores and the others with the highest. What swaps do together is not what each would do alone,
so the sweep tries all that promise a gain, then the better half of them, and so on, and keeps the first that raises the
score of the batch. So a sweep never lowers it. All ranks decide the same, from the same numbers.

Shapes: n samples of this rank, S strata of this rank, M samples of a stratum, r swaps of a stratum, R of all strata.
"""

import torch
from torch import Tensor

from tercet.distributed import World
from tercet.training.selection.candidates import Candidates, Views
from tercet.training.selection.strata import Strata


class Swapper:
    """Improves a chosen batch. `error` is the rounding error of a score; `near_ties` counts decisions within it."""

    def __init__(self, views: Views, strata: Strata, world: World, chosen_n: Tensor, error: float) -> None:
        self.views, self.strata, self.world, self.error = views, strata, world, error
        self.near_ties = 0
        self.chosen_n = chosen_n
        self.candidates, self.score = self._given(chosen_n)

    def sweep(self) -> None:
        """Makes the most promising swaps, if there are any that raise the score of the batch."""
        leaving_Sr, coming_Sr, gain_Sr = self._promising()
        gain_R = self.world.gather(gain_Sr.flatten())
        count = int((gain_R > 0).sum())
        while count:
            best_R = torch.zeros_like(gain_R, dtype=torch.bool)
            best_R[gain_R.argsort(descending=True, stable=True)[:count]] = True
            own_Sr = best_R.view(self.world.size, *gain_Sr.shape)[self.world.rank]
            chosen_n = self.chosen_n.clone()
            chosen_n[leaving_Sr[own_Sr]], chosen_n[coming_Sr[own_Sr]] = False, True
            candidates, score = self._given(chosen_n)
            self.near_ties += int(self.world.first and abs(score - self.score) <= self.error)
            if score > self.score:
                self.chosen_n, self.candidates, self.score = chosen_n, candidates, score
                return
            count //= 2

    def _promising(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each stratum: which samples leave, which come in their place, and the gain of each swap alone."""
        score_SM = self.candidates.scores().nan_to_num(nan=-torch.inf).view(self.strata.count, -1)
        chosen_SM = self.chosen_n.view_as(score_SM)
        swaps = min(self.strata.kept, score_SM.shape[1] - self.strata.kept)
        low_SM, leaving_SM = torch.where(chosen_SM, score_SM, torch.inf).sort(dim=1, stable=True)
        high_SM, coming_SM = torch.where(chosen_SM, -torch.inf, score_SM).sort(dim=1, descending=True, stable=True)
        first_S1 = torch.arange(self.strata.count, device=score_SM.device)[:, None] * score_SM.shape[1]
        gain_Sr = (high_SM - low_SM)[:, :swaps].nan_to_num(nan=0.0)
        return (leaving_SM + first_S1)[:, :swaps], (coming_SM + first_S1)[:, :swaps], gain_Sr

    def _given(self, chosen_n: Tensor) -> tuple[Candidates, float]:
        """The candidates given a batch, and the score of the batch."""
        candidates = Candidates(self.views, chunks=1)
        candidates.choose(0, torch.nonzero(self.world.gather(chosen_n)).flatten())
        member_n = candidates.members()
        known_n = chosen_n & ~member_n.isnan()
        total = torch.stack([member_n[known_n].sum(), known_n.sum().double()])
        score, count = self.world.sum(total).tolist()
        return candidates, score / max(count, 1)

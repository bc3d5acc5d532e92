"""Strata: the parts of a super-batch from which a selection keeps the same share each.

The samples of a super-batch stand in the same order at any number of processes, and each process holds a contiguous
part of them. A stratum is a smaller contiguous part: a process holds whole strata, and selects from each of them alone.
So the number of processes does not change the selection.

Shapes: n samples of this rank, S strata of this rank, M samples of a stratum, k of them kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 1e-5  # relative to the threshold; rounding errors may decide between scores as close as this


@dataclass(frozen=True)
class Kept:
    """The places of the samples that this rank keeps, ascending; `near_ties` counts the pairs of a kept and a dropped
    sample that another number of processes might swap."""

    places: Tensor
    near_ties: int = 0


@dataclass(frozen=True)
class Strata:
    """`count` strata on this rank; `kept` samples of each stay."""

    count: int
    kept: int

    def best(self, score_n: Tensor) -> Kept:
        """The samples with the highest scores of each stratum; of equal scores, the first. NaN ranks lowest."""
        score_SM = score_n.double().nan_to_num(-torch.inf, torch.inf, -torch.inf).view(self.count, -1)
        ranked_SM, place_SM = score_SM.sort(dim=1, descending=True, stable=True)
        first_S1 = torch.arange(self.count, device=score_n.device)[:, None] * score_SM.shape[1]
        places = (place_SM[:, : self.kept].sort(dim=1).values + first_S1).flatten()
        return Kept(places, near_ties(ranked_SM[:, : self.kept], ranked_SM[:, self.kept :]))


def near_ties(kept_Sk: Tensor, dropped_Sm: Tensor) -> int:
    """Pairs of a kept and a dropped score that both lie close to the threshold between them."""
    if dropped_Sm.shape[1] == 0:
        return 0
    threshold_S1 = (kept_Sk[:, -1:] + dropped_Sm[:, :1]) / 2
    near_Sk, near_Sm = ((score - threshold_S1).abs() <= NEAR * threshold_S1.abs() for score in (kept_Sk, dropped_Sm))
    return int((near_Sk.sum(dim=1) * near_Sm.sum(dim=1)).sum())

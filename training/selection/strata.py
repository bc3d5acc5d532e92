"""Strata: equal parts of a super-batch. A selection keeps the same number of samples of each.

The order of the samples in a super-batch does not depend on the number of processes. Each process has a contiguous part
of the samples. A stratum is a smaller contiguous part: each process has whole strata, and selects within each of them.
So the number of processes does not change the selection.

Shapes: n samples of this rank, S strata of this rank, M samples of a stratum, k of them kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 1e-5  # relative to the threshold; rounding errors may decide between scores that are this close


@dataclass(frozen=True)
class Kept:
    """The positions of the samples that this rank keeps, ascending.

    `near_ties` counts the pairs of a kept and a dropped sample that another number of processes might swap.
    """

    places: Tensor
    near_ties: int = 0


@dataclass(frozen=True)
class Strata:
    """The number of strata on this rank, and the number of samples that each of them keeps."""

    count: int
    kept: int

    def best(self, score_n: Tensor) -> Kept:
        """The samples with the highest scores of each stratum. Of equal scores, the first wins. NaN is the lowest."""
        score_SM = score_n.double().nan_to_num(-torch.inf, torch.inf, -torch.inf).view(self.count, -1)
        ranked_SM, place_SM = score_SM.sort(dim=1, descending=True, stable=True)
        first_S1 = torch.arange(self.count, device=score_n.device)[:, None] * score_SM.shape[1]
        places = (place_SM[:, : self.kept].sort(dim=1).values + first_S1).flatten()
        return Kept(places, near_ties(ranked_SM[:, : self.kept], ranked_SM[:, self.kept :]))


def near_ties(kept_Sk: Tensor, dropped_Sm: Tensor) -> int:
    """The number of pairs of a kept and a dropped score that are both close to the threshold between them."""
    if dropped_Sm.shape[1] == 0:
        return 0
    threshold_S1 = (kept_Sk[:, -1:] + dropped_Sm[:, :1]) / 2
    near_Sk, near_Sm = ((score - threshold_S1).abs() <= NEAR * threshold_S1.abs() for score in (kept_Sk, dropped_Sm))
    return int((near_Sk.sum(dim=1) * near_Sm.sum(dim=1)).sum())

"""Strata: equal parts of a super-batch. A selection keeps the same number of samples of each.

The order of the samples in a super-batch does not depend on the number of processes. Each process has a contiguous part
of the samples. A stratum is a smaller contiguous part: each process has whole strata, and selects within each of them.
So the number of processes does not change the selection.

Shapes: n samples of this rank, S strata of this rank, M samples of a stratum, k of them kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tercet.distributed import World

NEAR = 1e-5  # relative to the threshold; rounding errors may decide between scores that are this close


@dataclass(frozen=True)
class Kept:
    """The positions of the samples that this rank keeps, ascending.

    `near_ties` counts the pairs of a kept and a dropped sample that another number of processes might swap. `measures`
    are numbers for the metrics, by name; they are the same on all ranks. `scores` has a score of each of this rank's
    samples, if the rule has one: higher is better, NaN is none. `scored` names it.
    """

    places: Tensor
    near_ties: int = 0
    measures: Mapping[str, float] = field(default_factory=dict)
    scores: Tensor | None = None
    scored: str = "score"


@dataclass(frozen=True)
class Strata:
    """The number of strata on this rank, and the number of samples that each of them keeps."""

    count: int
    kept: int

    def best(self, score_n: Tensor) -> Kept:
        """The samples with the highest scores of each stratum. Of equal scores, the first wins. NaN is the lowest."""
        return self.highest(score_n, torch.full((self.count,), self.kept, device=score_n.device))

    def highest(self, score_n: Tensor, take_S: Tensor, error: float = 0.0) -> Kept:
        """As `best`, with a number of samples for each stratum. `error` is the rounding error of a score, if it may be
        larger than its size suggests."""
        score_SM = score_n.double().nan_to_num(-torch.inf, torch.inf, -torch.inf).view(self.count, -1)
        ranked_SM, place_SM = score_SM.sort(dim=1, descending=True, stable=True)
        first_S1 = torch.arange(self.count, device=score_n.device)[:, None] * score_SM.shape[1]
        taken_SM = torch.arange(score_SM.shape[1], device=score_n.device) < take_S[:, None]
        places = (place_SM + first_S1)[taken_SM].sort().values
        return Kept(places, near_ties(ranked_SM, taken_SM, error), scores=score_n)

    def shares(self, world: World, chunk: int, chunks: int) -> Tensor:
        """How many samples each of this rank's strata contributes to a chunk `[S]`. All chunks together have all of
        them."""
        stratum_S = torch.arange(self.count, device=world.device) + world.rank * self.count
        offset_S = stratum_S * chunks // (self.count * world.size)
        return ((chunk + 1) * self.kept + offset_S) // chunks - (chunk * self.kept + offset_S) // chunks


@dataclass(frozen=True)
class WholeBatch(Strata):
    """One stratum: the super-batch of all ranks, of which `kept` samples stay. A rank may keep any number of its
    own."""

    world: World

    def highest(self, score_n: Tensor, take_S: Tensor, error: float = 0.0) -> Kept:
        """A collective."""
        score_N, first = self.world.gather(score_n.double()), self.world.rank * len(score_n)
        found = Strata(1, self.kept).highest(score_N, take_S, error)
        own = (found.places >= first) & (found.places < first + len(score_n))
        return Kept(found.places[own] - first, found.near_ties if self.world.first else 0, scores=score_n)

    def shares(self, world: World, chunk: int, chunks: int) -> Tensor:
        return super().shares(World(device=world.device), chunk, chunks)


def near_ties(ranked_SM: Tensor, taken_SM: Tensor, error: float = 0.0) -> int:
    """The number of pairs of a kept and a dropped score that are both close to the threshold between them.

    Scores are in descending order. A stratum that keeps none or all of its samples has no threshold.
    """
    lowest_S = torch.where(taken_SM, ranked_SM, torch.inf).amin(dim=1)
    highest_S = torch.where(taken_SM, -torch.inf, ranked_SM).amax(dim=1)
    threshold_S1 = ((lowest_S + highest_S) / 2)[:, None]
    near_SM = (ranked_SM - threshold_S1).abs() <= (NEAR * threshold_S1.abs()).clamp(min=error)
    near_SM &= torch.isfinite(ranked_SM)
    return int(((near_SM & taken_SM).sum(dim=1) * (near_SM & ~taken_SM).sum(dim=1)).sum())

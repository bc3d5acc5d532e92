"""Statistics that are a function of all queries at once, such as a correlation, and their intervals by the jackknife.

The jackknife computes the value without each block of queries in turn. A block is a group, or several groups if there
are more than `BLOCKS`. With Q queries, m_b of them in block b, h_b = Q / m_b, the whole value θ and that without the
block θ_b, the variance is the mean over the B blocks of

    (h_b θ − (h_b − 1) θ_b − θ_J)² / (h_b − 1),    θ_J = B θ − Σ_b (1 − m_b / Q) θ_b

(Busing, Meijer and van der Leeden 1999), and the interval is θ plus and minus a quantile of Student's t. Where no block
changes the value, as where mAP is perfect, the standard error is the range of the values divided by G. A correlation
has its interval on Fisher's scale, artanh r, at least as wide as that of independent groups of normal values: a
standard error of 1 / √(G − 3), and √((1 + r² / 2) / (G − 3)) for ranks (Bonett and Wright 2000).

Shape letters: Q queries, G groups, B blocks.
"""

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from math import atanh, inf, isfinite, sqrt, tanh
from typing import NamedTuple

import torch
from torch import Tensor

from tercet.eval.statistics.intervals import Estimate, Statistic, student

BLOCKS = 32
EXACT = 1e-12  # values that are so near are equal up to rounding
SAME = 1e-6  # values of which the largest and the smallest are so near are constant


class Spread(NamedTuple):
    """A value, and half the width of its 95 % interval."""

    value: float
    margin: float

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, self.value - self.margin, self.value + self.margin)


def jackknife(function: Callable[[Tensor], float], group_Q: Tensor, span: float = inf) -> Spread:
    """Of a function of the kept queries, which a mask says."""

    def without(block_Q: Tensor) -> Tensor:
        kept = (block_Q != block for block in range(int(block_Q.max()) + 1))
        return torch.tensor([function(kept_Q) for kept_Q in kept], dtype=torch.float64)

    return without_blocks(function(torch.ones(len(group_Q), dtype=torch.bool)), without, group_Q, span)


def without_blocks(whole: float, without: Callable[[Tensor], Tensor], group_Q: Tensor, span: float = inf) -> Spread:
    """Of a value of all queries, and a function that returns the values without each block of queries in turn. `span`:
    how far apart two values can be."""
    place_Q = torch.unique(group_Q, return_inverse=True)[1]
    groups, block_Q = int(place_Q.max()) + 1, place_Q % BLOCKS
    blocks = int(block_Q.max()) + 1
    if blocks < 2:
        return Spread(whole, inf)
    without_B = without(block_Q)
    if not without_B.isfinite().all():  # without a block, the rest has no value
        return Spread(whole, inf)
    if isfinite(span) and float((without_B - whole).abs().max()) < EXACT:
        return Spread(whole, student(groups - 1) * span / groups)
    share_B = block_Q.bincount().double() / len(block_Q)
    centre = blocks * whole - ((1 - share_B) * without_B).sum()
    apart_B = (whole - (1 - share_B) * without_B) / share_B - centre
    variance = (apart_B.square() * share_B / (1 - share_B)).mean()
    return Spread(whole, student(blocks - 1) * sqrt(float(variance)))


@dataclass(frozen=True, eq=False)
class OfBlocks(Statistic, ABC):
    """A statistic whose intervals are jackknives."""

    def degrees(self, baseline: Statistic, group_Q: Tensor) -> int:
        return min(super().degrees(baseline, group_Q), BLOCKS - 1)


@dataclass(frozen=True, eq=False)
class Jackknifed(OfBlocks):
    """A function of all rows of `values_Q`, which may be vectors, with the ends of its range."""

    function: Callable[[Tensor], float]
    least: float = -inf
    most: float = inf

    @property
    def value(self) -> float:
        return self.function(self.values_Q)

    @property
    def span(self) -> float:
        return self.most - self.least

    def estimate(self, group_Q: Tensor) -> Estimate:
        return jackknife(self._of, group_Q, self.span).estimate.within(self.least, self.most)

    def difference(self, baseline: Statistic, group_Q: Tensor) -> Estimate:
        assert isinstance(baseline, Jackknifed)
        return jackknife(lambda kept_Q: self._of(kept_Q) - baseline._of(kept_Q), group_Q).estimate

    def _of(self, kept_Q: Tensor) -> float:
        return self.function(self.values_Q[kept_Q])


@dataclass(frozen=True, eq=False)
class Correlation(OfBlocks):
    """Of two numbers for each query, `values_Q` `[Q, 2]`: Pearson's, or Spearman's with `ranks`. 0 if either is
    constant."""

    ranks: bool

    @property
    def value(self) -> float:
        return correlation(self.values_Q[:, 0], self.values_Q[:, 1], self.ranks)

    @property
    def span(self) -> float:
        return 2.0

    def estimate(self, group_Q: Tensor) -> Estimate:
        groups = len(torch.unique(group_Q))
        if groups < 4:
            return Estimate(self.value, -1.0, 1.0)
        nearest = 1 - 12 / (groups * (groups**2 - 1))  # Spearman's for all ranks but two neighbours in order
        on_scale = jackknife(lambda kept_Q: atanh(min(max(self._of(kept_Q), -nearest), nearest)), group_Q)
        error = sqrt((1 + (self.value**2 / 2 if self.ranks else 0)) / (groups - 3))
        margin = max(on_scale.margin, student(groups - 1) * error)
        low, high = tanh(on_scale.value - margin), tanh(on_scale.value + margin)
        return Estimate(self.value, min(low, self.value), max(high, self.value))

    def difference(self, baseline: Statistic, group_Q: Tensor) -> Estimate:
        assert isinstance(baseline, Correlation)
        return jackknife(lambda kept_Q: self._of(kept_Q) - baseline._of(kept_Q), group_Q).estimate

    def _of(self, kept_Q: Tensor) -> float:
        kept_Q2 = self.values_Q[kept_Q]
        return correlation(kept_Q2[:, 0], kept_Q2[:, 1], self.ranks)


def correlation(x_Q: Tensor, y_Q: Tensor, ranks: bool = False) -> float:
    """Pearson's, or Spearman's with `ranks`: that of the ranks, where equal values share their mean rank."""
    x_Q, y_Q = x_Q.double(), y_Q.double()
    if len(x_Q) < 2 or min(float(values_Q.max() - values_Q.min()) for values_Q in (x_Q, y_Q)) <= SAME:
        return 0.0
    x_Q, y_Q = (ranked(x_Q), ranked(y_Q)) if ranks else (x_Q, y_Q)
    x_Q, y_Q = x_Q - x_Q.mean(), y_Q - y_Q.mean()
    found = float(x_Q @ y_Q / (x_Q.norm() * y_Q.norm()))
    return min(max(found, -1.0), 1.0)


def ranked(values_Q: Tensor) -> Tensor:
    """The rank of each value from 1, where equal values share their mean rank."""
    _, place_Q, count_V = torch.unique(values_Q, return_inverse=True, return_counts=True)
    rank_V = count_V.cumsum(0).double() - (count_V - 1).double() / 2
    rank_Q: Tensor = rank_V[place_Q]
    return rank_Q

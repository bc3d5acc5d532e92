"""95 % confidence intervals of evaluation metrics, with groups as the independent observations.

Queries of one group, such as the captions of one picture, are right or wrong together. Every interval therefore
compares groups with each other, and takes its width from Student's t with one degree of freedom less than there are
groups. All of them are closed forms: nothing is drawn at random.

- A share (R@k, accuracy, average precision): the interval of Agresti and Coull (1998), which adds two hits and two
  misses to the data and is then that of a mean. Here the four are groups of typical size, and the variance is that of a
  ratio of group totals (Cochran 1977). 0 of 27 has the interval 0 to 0.16, where a bootstrap gives 0 to 0.
- The difference of two shares on the same queries: the interval of Bonett and Price (2012), which adds one group that
  only the first model finds and one that only the second finds. Weights may depend on the model: `weighted_shares.py`.
- A share of episodes, each with many queries that are drawn anew: few episodes say much, and a group that is all hits
  would say too little. The interval is that of Agresti and Coull for as many queries as have the variance that the
  episodes show, but not more than there are, with Student's t (after Korn and Graubard 1998, who use exact limits).
  Differences add two queries, in place of groups. Where few episodes fail, and then badly, it holds the true accuracy
  less often.
- A mean rank: the ranks that are compatible with the data when the standard deviation is proportional to the mean, as
  it is for ranks with an exponential tail. The interval is at least as wide as if one group were one rank worse. Where
  the tail is heavier, it holds the true mean less often.
- A mean rank variance: that of a mean rank, because this value is positive, too. Its tail is longer: with 100 groups
  and fewer, it holds the true value in 90 of 100 cases.
- A median rank: every rank m for which the share of queries up to m is compatible with one half (Woodruff 1952).
- The difference of two medians: the two intervals, squared and added (Zou and Donner 2008). It ignores that the queries
  are the same, so that it is wider than it must be.

Simulations in the tests measure how often each interval holds the true value.

Shape letters: Q queries, G groups.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, inf, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

NORMAL = 1.959964  # the two-sided 95 % quantile


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def within(self, least: float, most: float) -> "Estimate":
        """The same with an interval that is cut to the possible values."""
        return Estimate(self.value, max(self.low, least), min(self.high, most))


@dataclass(frozen=True, eq=False)
class Statistic(ABC):
    """One number per query, and what they come to."""

    values_Q: Tensor

    @property
    @abstractmethod
    def value(self) -> float: ...

    @property
    @abstractmethod
    def span(self) -> float:
        """How far apart two values can be."""

    @abstractmethod
    def estimate(self, group_Q: Tensor) -> Estimate:
        """The value with its interval. `group_Q` names the group of each query."""

    @abstractmethod
    def difference(self, baseline: "Statistic", group_Q: Tensor) -> Estimate:
        """How much more this is than the baseline's, on the same queries. The interval may reach beyond `span`: a
        p-value follows from its whole width."""

    def degrees(self, baseline: "Statistic", group_Q: Tensor) -> int:
        """The degrees of freedom of Student's t in the interval of `difference`."""
        return len(torch.unique(group_Q)) - 1


@dataclass(frozen=True, eq=False)
class Share(Statistic):
    """The mean of hits, or of other values from 0 to 1. Without weights, all queries count alike."""

    weights_Q: Tensor | None = None

    @property
    def value(self) -> float:
        return _mean(self.values_Q, self.weights_Q)

    @property
    def span(self) -> float:
        return 1.0

    def estimate(self, group_Q: Tensor) -> Estimate:
        return self.at(group_Q)

    def at(self, group_Q: Tensor, z: float = NORMAL) -> Estimate:
        """The value with an interval for another quantile."""
        low, high = _range(self.values_Q.double(), self.weights_Q, group_Q, added=(0, 0, 1, 1), z=z)
        return Estimate(self.value, low, high).within(0.0, 1.0)

    def difference(self, baseline: Statistic, group_Q: Tensor) -> Estimate:
        """Also of shares with other weights: each group moves the difference by what it moves the first share more
        than the second."""
        assert isinstance(baseline, Share)
        mean, moved_G = _moved(self.values_Q.double(), self.weights_Q, group_Q, added=(0, 1))
        other, moved_by_G = _moved(baseline.values_Q.double(), baseline.weights_Q, group_Q, added=(1, 0))
        margin = _margin(moved_G - moved_by_G, len(moved_G) - 2)
        return Estimate(self.value - baseline.value, mean - other - margin, mean - other + margin)


@dataclass(frozen=True, eq=False)
class EpisodeShare(Share):
    """The mean of hits in groups of many queries, such as the episodes of few-shot classification."""

    def estimate(self, group_Q: Tensor) -> Estimate:
        hits_Q, queries = self.values_Q.double(), len(self.values_Q)
        usual = float(hits_Q.sum() + 2) / (queries + 4)
        alone = usual * (1 - usual) / (queries + 4)  # the variance if all queries were independent
        count, t = usual * (1 - usual) / max(_variance(hits_Q, group_Q), alone), _t(group_Q)
        if t == inf:
            return Estimate(self.value, 0.0, 1.0)
        centre = (self.value * count + t**2 / 2) / (count + t**2)
        margin = t * sqrt(centre * (1 - centre) / (count + t**2))
        return Estimate(self.value, centre - margin, centre + margin).within(0.0, 1.0)

    def difference(self, baseline: Statistic, group_Q: Tensor) -> Estimate:
        apart_Q = self.values_Q.double() - baseline.values_Q.double()
        queries = len(apart_Q) + 2
        centre = float(apart_Q.sum()) / queries
        alone = (float(apart_Q.square().sum() + 2) / queries - centre**2) / queries
        margin = _t(group_Q) * sqrt(max(_variance(apart_Q, group_Q), alone))
        return Estimate(float(apart_Q.mean()), centre - margin, centre + margin)


def _t(group_Q: Tensor) -> float:
    return student(len(torch.unique(group_Q)) - 1)


def _variance(values_Q: Tensor, group_Q: Tensor) -> float:
    """Of the mean, from what groups differ by. 0 for one group."""
    place_Q = torch.unique(group_Q, return_inverse=True)[1]
    groups = int(place_Q.max()) + 1
    apart_G = torch.zeros(groups, dtype=torch.float64).index_add_(0, place_Q, values_Q - values_Q.mean())
    return float(apart_G.square().sum()) / len(values_Q) ** 2 * groups / max(groups - 1, 1)


def class_mean(hits_Q: Tensor, classes_Q: Tensor) -> Share:
    """The mean of the classes' own shares: each query weighs one over the number of queries of its class."""
    _, class_Q, queries_K = torch.unique(classes_Q, return_inverse=True, return_counts=True)
    return Share(hits_Q, 1 / queries_K.double()[class_Q])


@dataclass(frozen=True, eq=False)
class MeanRank(Statistic):
    """The mean of ranks from 1 to `candidates`. Without weights, all queries count alike."""

    candidates: int
    weights_Q: Tensor | None = None

    @property
    def value(self) -> float:
        return _mean(self.values_Q, self.weights_Q)

    @property
    def span(self) -> float:
        return self.candidates - 1

    def estimate(self, group_Q: Tensor) -> Estimate:
        low, high = _range(self.values_Q.double(), self.weights_Q, group_Q)
        groups = len(torch.unique(group_Q))
        relative = hypot((high - low) / 2, student(groups - 1) / groups) / self.value
        highest = self.value / (1 - relative) if relative < 1 else inf
        return Estimate(self.value, self.value / (1 + relative), highest).within(1.0, self.candidates)

    def difference(self, baseline: Statistic, group_Q: Tensor) -> Estimate:
        apart_Q = self.values_Q.double() - baseline.values_Q.double()
        return Estimate(_mean(apart_Q, self.weights_Q), *_range(apart_Q, self.weights_Q, group_Q))


@dataclass(frozen=True, eq=False)
class RankVariance(MeanRank):
    """The mean of squared deviations of ranks from 1 to `candidates`."""

    @property
    def span(self) -> float:
        return self._above_zero().span

    def estimate(self, group_Q: Tensor) -> Estimate:
        found = self._above_zero().estimate(group_Q)
        return Estimate(self.value, found.low - 1, found.high - 1)

    def difference(self, baseline: Statistic, group_Q: Tensor) -> Estimate:
        other = RankVariance(baseline.values_Q, self.candidates, self.weights_Q)
        return self._above_zero().difference(other._above_zero(), group_Q)

    def _above_zero(self) -> MeanRank:
        """As ranks, which are at least 1; the mean of the squared deviations is (candidates - 1)² / 4 at most."""
        most = 1 + (self.candidates - 1) ** 2
        return MeanRank(self.values_Q.double() + 1, most, self.weights_Q)


@dataclass(frozen=True, eq=False)
class MedianRank(Statistic):
    """The lower median of ranks from 1 to `candidates`: the smallest rank that half of the queries reach."""

    candidates: int

    @property
    def value(self) -> float:
        return float(self.values_Q.double().median())

    @property
    def span(self) -> float:
        return self.candidates - 1

    def estimate(self, group_Q: Tensor) -> Estimate:
        ranks = [0, *torch.unique(self.values_Q).tolist(), self.candidates]

        def reached(rank: float) -> Estimate:
            """The share of the queries that have this rank or a better one."""
            return Share(self.values_Q <= rank).estimate(group_Q)

        low = bisect_left(ranks, 0.5, key=lambda rank: reached(rank).high)
        high = bisect_left(ranks, 0.5, key=lambda rank: reached(rank).low)
        return Estimate(self.value, max(ranks[low], 1), ranks[min(high, len(ranks) - 1)])

    def difference(self, baseline: Statistic, group_Q: Tensor) -> Estimate:
        first, second = baseline.estimate(group_Q), self.estimate(group_Q)
        apart = second.value - first.value
        below = hypot(second.value - second.low, first.high - first.value)
        above = hypot(second.high - second.value, first.value - first.low)
        return Estimate(apart, apart - below, apart + above)


def _mean(values_Q: Tensor, weights_Q: Tensor | None) -> float:
    weights_Q = _weights(values_Q, weights_Q)
    return float(weights_Q @ values_Q.double() / weights_Q.sum())


def _weights(values_Q: Tensor, weights_Q: Tensor | None) -> Tensor:
    return torch.ones(len(values_Q), dtype=torch.float64) if weights_Q is None else weights_Q


def _range(
    values_Q: Tensor, weights_Q: Tensor | None, group_Q: Tensor, added: Sequence[float] = (), z: float = NORMAL
) -> tuple[float, float]:
    """The interval of the weighted mean once groups of typical weight were added that have these values."""
    mean, moved_G = _moved(values_Q, weights_Q, group_Q, added)
    margin = _margin(moved_G, len(moved_G) - len(added), z)
    return mean - margin, mean + margin


def _moved(values_Q: Tensor, weights_Q: Tensor | None, group_Q: Tensor, added: Sequence[float]) -> tuple[float, Tensor]:
    """The weighted mean with the added groups, and by how much each group moves it."""
    weights_Q = _weights(values_Q, weights_Q)
    _, place_Q = torch.unique(group_Q, return_inverse=True)
    groups = int(place_Q.max()) + 1
    weight_G = torch.zeros(groups, dtype=torch.float64).index_add_(0, place_Q, weights_Q)
    total_G = torch.zeros(groups, dtype=torch.float64).index_add_(0, place_Q, weights_Q * values_Q)
    typical = weight_G.square().sum() / weight_G.sum()
    weight_G = torch.cat([weight_G, typical.expand(len(added))])
    total_G = torch.cat([total_G, typical * torch.tensor(added, dtype=torch.float64)])
    mean = total_G.sum() / weight_G.sum()
    return float(mean), (total_G - mean * weight_G) / weight_G.sum()


def _margin(moved_G: Tensor, groups: int, z: float = NORMAL) -> float:
    """Half the width of the interval, with one degree of freedom less than there are groups."""
    if groups < 2:
        return inf
    return student(groups - 1, z) * float(moved_G.norm()) * sqrt(1 + 1 / (len(moved_G) - 1))


def student(degrees: int, z: float = NORMAL) -> float:
    """The quantile of Student's t, expanded around the normal one, `z` (Abramowitz and Stegun 26.7.5); by default the
    two-sided 95 % quantile."""
    if degrees < 1:
        return inf
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))

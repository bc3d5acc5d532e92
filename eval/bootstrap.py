"""95 % percentile bootstrap intervals over items.

Items are resampled, not queries: five captions of one picture are one observation. A statistic is a function of the
queries' weights, so that a value and its resamples are the same formula: weights of one give the value itself. The
difference of two models on the same items is a statistic too, and each resample draws the same items for both: what
makes an item easy or hard for either of them cancels.

Shape letters: R resamples, Q queries, I items.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

Statistic = Callable[[Tensor], Tensor]  # weights [R, Q] -> values [R]


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistics: Mapping[str, Statistic], items: Tensor, seed: int = 0, resamples: int = 1000, chunk: int = 50
) -> dict[str, Estimate]:
    """Every statistic with its interval, all on the same resamples. `items` says which item each query belongs to."""
    _, item_Q = torch.unique(items, return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    drawn: dict[str, list[Tensor]] = {name: [] for name in statistics}
    for start in range(0, resamples, chunk):
        weights_RQ = _resample(int(item_Q.max()) + 1, min(chunk, resamples - start), generator)[:, item_Q]
        for name, statistic in statistics.items():
            drawn[name].append(statistic(weights_RQ))
    once_1Q = torch.ones(1, len(items), dtype=torch.float64)
    return {name: _estimate(statistics[name](once_1Q), torch.cat(values)) for name, values in drawn.items()}


def mean(values_Q: Tensor) -> Statistic:
    return partial(_mean, values_Q.double())


def median(values_Q: Tensor) -> Statistic:
    """The lower median: the smallest value that half of the weight does not exceed."""
    ascending, order = values_Q.double().sort()
    return partial(_median, ascending, order)


def class_mean(hits_Q: Tensor, classes_Q: Tensor) -> Statistic:
    """The mean of the classes' own means, over the classes that a resample holds."""
    member_QK = one_hot(torch.unique(classes_Q, return_inverse=True)[1]).double()
    return partial(_class_mean, hits_Q.double(), member_QK)


def difference(first: Statistic, second: Statistic) -> Statistic:
    """How much more the second gives than the first."""
    return partial(_difference, first, second)


def _difference(first: Statistic, second: Statistic, weights_RQ: Tensor) -> Tensor:
    return second(weights_RQ) - first(weights_RQ)


def _mean(values_Q: Tensor, weights_RQ: Tensor) -> Tensor:
    return weights_RQ @ values_Q / weights_RQ.sum(dim=1)


def _median(ascending_Q: Tensor, order_Q: Tensor, weights_RQ: Tensor) -> Tensor:
    reached_RQ = weights_RQ[:, order_Q].cumsum(dim=1) * 2 >= weights_RQ.sum(dim=1, keepdim=True)
    return ascending_Q[reached_RQ.int().argmax(dim=1)]


def _class_mean(hits_Q: Tensor, member_QK: Tensor, weights_RQ: Tensor) -> Tensor:
    seen_RK = weights_RQ @ member_QK
    recall_RK = (weights_RQ * hits_Q) @ member_QK / seen_RK.clamp(min=1)
    return recall_RK.sum(dim=1) / (seen_RK > 0).sum(dim=1)


def _resample(items: int, resamples: int, generator: torch.Generator) -> Tensor:
    """How often each item is drawn when as many are drawn as there are, with replacement."""
    drawn_RI = torch.randint(items, (resamples, items), generator=generator)
    times_RI = torch.zeros(resamples, items, dtype=torch.float64)
    return times_RI.scatter_add_(1, drawn_RI, torch.ones_like(times_RI))


def _estimate(value: Tensor, drawn_R: Tensor) -> Estimate:
    low, high = drawn_R.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(value), low, high)

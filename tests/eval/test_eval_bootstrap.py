"""The closed forms of intervals, against a bootstrap that draws whole groups: both say the same where there are enough
groups and values are not at the end of their range."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tercet.eval.statistics.intervals import Estimate, MeanRank, Share, Statistic, class_mean

GROUPS, RESAMPLES = 200, 2000


def grouped(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The group of each query, and how easy it is for two models: queries of one group are alike. 1 to 5 per group."""
    generator = torch.Generator().manual_seed(seed)
    group_Q = torch.arange(GROUPS).repeat_interleave(torch.randint(1, 6, (GROUPS,), generator=generator))
    ease_G = torch.rand(GROUPS, generator=generator)
    easy_MQ = torch.rand(2, len(group_Q), generator=generator) < ease_G[group_Q] ** torch.tensor([[1.2], [0.7]])
    return group_Q, *easy_MQ.double()


def bootstrap(value: Callable[[Tensor], Tensor], group_Q: Tensor, parts_PQ: Tensor) -> tuple[float, float]:
    """The middle 95 % of a statistic over samples of groups with replacement. `value` takes sums by resample [P, R]."""
    sums_PG = torch.zeros(len(parts_PQ), GROUPS, dtype=torch.float64).index_add_(1, group_Q, parts_PQ)
    drawn_RG = torch.randint(GROUPS, (RESAMPLES, GROUPS), generator=torch.Generator().manual_seed(7))
    found_R = value(sums_PG[:, drawn_RG].sum(dim=2))
    low, high = torch.quantile(found_R, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def ratio(sums_PR: Tensor) -> Tensor:
    return sums_PR[0] / sums_PR[1]


def cases(seed: int) -> dict[str, tuple[Estimate, tuple[float, float]]]:
    """The closed form and the bootstrap of a share, a balanced accuracy, a mean rank, and differences of these."""
    group_Q, first_Q, second_Q = grouped(seed)
    ones_Q, classes_Q = torch.ones_like(first_Q), group_Q % 7
    balanced = class_mean(first_Q, classes_Q)
    rank_Q = 1 + (10 * (1 - first_Q) * (1 + (group_Q % 5))).double()
    statistics: dict[str, tuple[Statistic, Tensor]] = {
        "share": (Share(first_Q), torch.stack([first_Q, ones_Q])),
        "balanced": (balanced, torch.stack([first_Q * balanced.weights_Q, balanced.weights_Q])),
        "mean rank": (MeanRank(rank_Q, 100), torch.stack([rank_Q, ones_Q])),
    }
    found = {
        name: (one.estimate(group_Q), bootstrap(ratio, group_Q, parts)) for name, (one, parts) in statistics.items()
    }
    apart = Share(second_Q).difference(Share(first_Q), group_Q)
    found["difference"] = apart, bootstrap(ratio, group_Q, torch.stack([second_Q - first_Q, ones_Q]))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_closed_forms_agree_with_a_bootstrap_over_groups(seed: int) -> None:
    """Each end within 15 % of the width. At the ends of the range, the closed forms are wider on purpose."""
    for name, (estimate, (low, high)) in cases(seed).items():
        width = high - low
        assert abs(estimate.low - low) < 0.15 * width, name
        assert abs(estimate.high - high) < 0.15 * width, name


def test_queries_of_a_group_are_not_taken_for_independent_ones() -> None:
    """Without groups, both intervals would be much narrower than they are."""
    group_Q, hits_Q, _ = grouped(0)
    alone, together = (Share(hits_Q).estimate(groups) for groups in (torch.arange(len(group_Q)), group_Q))
    assert together.high - together.low > 1.2 * (alone.high - alone.low)

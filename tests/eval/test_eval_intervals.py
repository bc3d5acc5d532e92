"""Intervals: simulations of how often they hold the true value, and what the closed forms are in textbooks."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tercet.eval.statistics.intervals import (
    Estimate,
    MeanRank,
    MedianRank,
    RankVariance,
    Share,
    Statistic,
    class_mean,
    student,
)

RUNS = 300  # per case: where 95 % are covered, fewer than 91 % are counted in one case of a thousand
LEAST = 0.91
GROUPS = (10, 29, 100, 1000)

RankStatistic = type[MeanRank] | type[MedianRank]

Draw = Callable[[torch.Generator], tuple[Estimate, float]]  # an interval, and the truth that it should hold


def coverage(draw: Draw) -> float:
    """How often an interval holds the truth."""
    generator = torch.Generator().manual_seed(0)
    found = [draw(generator) for _ in range(RUNS)]
    return sum(one.low - 1e-6 <= truth <= one.high + 1e-6 for one, truth in found) / RUNS


def rand(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator)


def groups_of(generator: torch.Generator, groups: int, sizes: str) -> Tensor:
    """The group of each query. Groups have so many queries each, or between one and six."""
    uneven_G = torch.randint(1, 7, (groups,), generator=generator)
    return torch.arange(groups).repeat_interleave(uneven_G if sizes == "uneven" else int(sizes))


@pytest.mark.parametrize("share", [0.0, 0.003, 0.05, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(
    ("sizes", "alike"),
    [("1", 0.0), ("3", 1.0), ("uneven", 0.6), pytest.param("uneven", 1.0, marks=pytest.mark.long)],
)
def test_the_interval_of_a_share_covers_the_truth(sizes: str, alike: float, share: float) -> None:
    """A query is right where its group is, with probability `alike`, and else by itself."""

    def draw(generator: torch.Generator, groups: int) -> tuple[Estimate, float]:
        group_Q = groups_of(generator, groups, sizes)
        own_Q, group_G = rand(generator, len(group_Q)) < share, rand(generator, groups) < share
        hits_Q = torch.where(rand(generator, len(group_Q)) < alike, group_G[group_Q], own_Q)
        return Share(hits_Q).estimate(group_Q), share

    for groups in GROUPS:
        assert coverage(partial(draw, groups=groups)) >= LEAST, groups


def test_the_interval_of_an_average_precision_covers_its_mean() -> None:
    """The precision is one over the rank: 1 with probability 0.4, and else the ranks 2 to 10 equally often."""

    def draw(generator: torch.Generator, groups: int) -> tuple[Estimate, float]:
        late = 1 / torch.randint(2, 11, (groups,), generator=generator)
        found = Share(torch.where(rand(generator, groups) < 0.4, 1.0, late))
        return found.estimate(torch.arange(groups)), 0.4 + 0.6 * sum(1 / rank for rank in range(2, 11)) / 9

    for groups in GROUPS:
        assert coverage(partial(draw, groups=groups)) >= LEAST, groups


@pytest.mark.parametrize(("least", "most"), [(0.0, 0.0), (0.1, 0.1), (0.5, 0.5), (0.05, 0.95), (0.9, 1.0)])
@pytest.mark.parametrize(
    "frequencies", [[0.5, 0.5], [0.8, 0.1, 0.1], [0.9] + [0.1 / 9] * 9, [0.02] * 50], ids=["2", "3", "10", "50"]
)
def test_the_interval_of_the_mean_over_classes_covers_the_truth(
    frequencies: list[float], least: float, most: float
) -> None:
    """Recalls go evenly from the least to the most of the classes. The truth is the mean over the classes seen."""
    recall_K = torch.linspace(least, most, len(frequencies))

    def draw(generator: torch.Generator, items: int) -> tuple[Estimate, float]:
        label = torch.multinomial(torch.tensor(frequencies), items, replacement=True, generator=generator)
        found = class_mean(rand(generator, items) < recall_K[label], label)
        return found.estimate(torch.arange(items)), float(recall_K[label.unique()].double().mean())

    for items in GROUPS:
        assert coverage(partial(draw, items=items)) >= LEAST, items


@pytest.mark.parametrize("kind", [MeanRank, MedianRank])
@pytest.mark.parametrize("sizes", ["1", "3"])
@pytest.mark.parametrize("tail", [0.5, 20.0, None], ids=["near perfect", "usual", "random"])
def test_the_interval_of_a_rank_covers_the_truth(kind: RankStatistic, sizes: str, tail: float | None) -> None:
    """Ranks with an exponential tail, or any of 999 equally often; all queries of a group have the same."""

    def ranks(generator: torch.Generator, groups: int) -> Tensor:
        if tail is None:
            return torch.randint(1, 1000, (groups,), generator=generator)
        return (1 - tail * rand(generator, groups).log()).long().clamp(max=999)

    truth = kind(ranks(torch.Generator().manual_seed(9), 10**6), 999).value if tail else 500.0

    def draw(generator: torch.Generator, groups: int) -> tuple[Estimate, float]:
        group_Q = groups_of(generator, groups, sizes)
        return kind(ranks(generator, groups)[group_Q], 999).estimate(group_Q), truth

    for groups in GROUPS:
        assert coverage(partial(draw, groups=groups)) >= LEAST, groups


@pytest.mark.parametrize("tail", [0.5, 20.0, None], ids=["near perfect", "usual", "random"])
def test_the_interval_of_a_rank_variance_covers_the_truth(tail: float | None) -> None:
    """Of a group's ranks in three languages. Those of few groups may lack the long tail."""

    def apart(generator: torch.Generator, groups: int) -> Tensor:
        if tail is None:
            ranks = torch.randint(1, 1000, (groups, 3), generator=generator).double()
        else:
            ranks = (1 - tail * rand(generator, groups, 3).log()).long().clamp(max=999).double()
        return (ranks - ranks.mean(dim=1, keepdim=True)).square().flatten()

    truth = float(apart(torch.Generator().manual_seed(9), 10**6).mean())

    def draw(generator: torch.Generator, groups: int) -> tuple[Estimate, float]:
        group_Q = torch.arange(groups).repeat_interleave(3)
        return RankVariance(apart(generator, groups), 999).estimate(group_Q), truth

    for groups in GROUPS:
        assert coverage(partial(draw, groups=groups)) >= (LEAST if groups == 1000 else 0.88), groups


def test_weights_count_a_query_as_often_as_copies_of_it_would() -> None:
    """In values and in differences; the variance of the same ranks for both models has a difference of zero."""
    values, copies = torch.tensor([1.0, 4.0, 9.0, 2.0]), torch.tensor([3, 1, 1, 2])
    for kind in (MeanRank, RankVariance):
        weighed = kind(values, 50, copies.double())
        repeated = kind(values.repeat_interleave(copies), 50)
        assert weighed.value == pytest.approx(repeated.value)
        assert weighed.estimate(torch.arange(4)) == pytest.approx(
            repeated.estimate(torch.arange(4).repeat_interleave(copies))
        )
        assert weighed.difference(weighed, torch.arange(4)) == pytest.approx((0, 0, 0))


@pytest.mark.parametrize(
    ("lost", "won"), [(0.0, 0.0), (0.02, 0.02), (0.0, 0.05), (0.02, 0.1), (0.3, 0.3), (0.1, 0.5), (0.0, 1.0)]
)
@pytest.mark.parametrize("sizes", ["1", "3", "uneven"])
def test_the_interval_of_a_difference_of_shares_covers_the_truth(sizes: str, lost: float, won: float) -> None:
    """`lost` is what the first model alone finds, `won` what the second alone finds."""

    def draw(generator: torch.Generator, groups: int) -> tuple[Estimate, float]:
        group_Q = groups_of(generator, groups, sizes)
        fate_G, both_G = rand(generator, groups), rand(generator, groups) < 0.5
        both_G &= fate_G >= lost + won
        first, second = (
            Share((both_G | (fate_G < lost))[group_Q]),
            Share((both_G | (fate_G >= lost) & (fate_G < lost + won))[group_Q]),
        )
        return second.difference(first, group_Q), won - lost

    for groups in GROUPS:
        assert coverage(partial(draw, groups=groups)) >= LEAST, groups


@pytest.mark.parametrize("kind", [MeanRank, MedianRank])
def test_the_interval_of_a_difference_of_ranks_covers_the_truth(kind: RankStatistic) -> None:
    """What makes a query hard for one model makes it hard for the other. Differences of ten groups are skewed."""

    def pair(generator: torch.Generator, groups: int) -> tuple[Statistic, Statistic]:
        ease = rand(generator, groups)
        first = 1 + (-20 * ease.log() + 5 * rand(generator, groups)).long()
        second = 1 + (-16 * ease.log() + 5 * rand(generator, groups)).long()
        return kind(first, 999), kind(second, 999)

    first, second = pair(torch.Generator().manual_seed(8), 10**6)
    truth = second.value - first.value

    def draw(generator: torch.Generator, groups: int) -> tuple[Estimate, float]:
        first, second = pair(generator, groups)
        return second.difference(first, torch.arange(groups)), truth

    for groups in GROUPS:
        assert coverage(partial(draw, groups=groups)) >= (LEAST if groups > 10 else 0.88), groups


def test_many_groups_give_the_interval_of_agresti_and_coull_for_a_share() -> None:
    found = Share(torch.arange(400) < 300).estimate(torch.arange(400))
    middle = 302 / 404
    half = student(399) * math.sqrt(middle * (1 - middle) / 403)
    assert found == pytest.approx((0.75, middle - half, middle + half))


def test_many_groups_give_the_interval_of_bonett_and_price_for_a_difference() -> None:
    first, second = torch.arange(400) < 40, torch.arange(400) >= 330
    found = Share(second).difference(Share(first), torch.arange(400))
    lost, won = 41 / 402, 71 / 402
    half = student(399) * math.sqrt((lost + won - (won - lost) ** 2) / 401)
    assert found == pytest.approx((30 / 400, won - lost - half, won - lost + half))


def test_groups_of_equal_queries_have_the_interval_of_one_query_each() -> None:
    hits = torch.arange(29) % 7 == 0
    once = Share(hits).estimate(torch.arange(29))
    assert Share(hits.repeat_interleave(3)).estimate(torch.arange(29).repeat_interleave(3)) == pytest.approx(once)


def test_no_hit_in_few_queries_does_not_exclude_chance() -> None:
    """0 of 27, where chance finds 1: the exact upper bound (Clopper and Pearson) is 1 - 0.025^(1/27)."""
    found = Share(torch.zeros(27)).estimate(torch.arange(27))
    assert found.low == found.value == 0
    assert 1 - 0.025 ** (1 / 27) < found.high < 0.2


def test_89_rows_of_29_pictures_are_29_observations() -> None:
    """Twelve hits in three pictures: by rows the interval leaves out a chance of 4.8 %, by pictures it does not."""
    picture = torch.arange(29).repeat_interleave(3)[:-1]
    picture = torch.cat([picture, torch.tensor([0, 1, 2])])
    hits = torch.isin(picture, torch.tensor([0, 1, 2]))
    assert len(picture) == 89
    assert Share(hits).estimate(torch.arange(89)).low > 0.048
    assert Share(hits).estimate(picture).low < 0.048


def test_a_class_with_one_sample_has_the_same_weight_as_any_other() -> None:
    hits, classes = torch.tensor([1, 0, 0, 1]), torch.tensor([4, 4, 4, 7])
    assert class_mean(hits, classes).value == pytest.approx((1 / 3 + 1) / 2)
    assert class_mean(1 - hits, classes).value == pytest.approx((2 / 3 + 0) / 2)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40))
def test_values_equal_a_naive_loop_and_lie_in_their_intervals(rows: list[tuple[int, bool, int]]) -> None:
    groups, hits, classes = (list(column) for column in zip(*rows, strict=True))
    place = [1 + 3 * group + label for group, _, label in rows]
    own = [[hit for _, hit, label in rows if label == one] for one in set(classes)]
    known = {
        sum(hits) / len(hits): Share(torch.tensor(hits)),
        sum(sum(one) / len(one) for one in own) / len(own): class_mean(torch.tensor(hits), torch.tensor(classes)),
        sum(place) / len(place): MeanRank(torch.tensor(place), 40),
        float(sorted(place)[(len(place) - 1) // 2]): MedianRank(torch.tensor(place), 40),
    }
    for value, statistic in known.items():
        found = statistic.estimate(torch.tensor(groups))
        assert found.value == pytest.approx(value)
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9


@pytest.mark.parametrize(("degrees", "quantile"), [(2, 4.303), (3, 3.182), (9, 2.262), (28, 2.048), (999, 1.962)])
def test_quantiles_of_student_equal_published_tables(degrees: int, quantile: float) -> None:
    assert student(degrees) == pytest.approx(quantile, rel=0.01)

"""p-values that agree with the intervals that they come from, and with exact ones; and Holm's correction."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp

from tercet.eval.statistics.intervals import Estimate, Share, student
from tercet.eval.statistics.jackknife import Jackknifed
from tercet.eval.statistics.significance import holm, p_value
from tercet.eval.statistics.weighted_shares import worst_share


def naive_holm(p_values: list[float]) -> list[float]:
    """By its definition: the p-value of rank i is rejected at a level if all of lower rank are, at level / (m - i)."""
    levels = sorted({level for one in p_values for level in (min(one * k, 1.0) for k in range(1, len(p_values) + 1))})

    def rejected(level: float) -> set[int]:
        kept: set[int] = set()
        for place, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
            if p_values[at] * (len(p_values) - place) > level:
                break
            kept.add(at)
        return kept

    return [next((level for level in levels if at in rejected(level)), 1.0) for at in range(len(p_values))]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(naive_holm(p_values))


def test_holm_equals_a_known_example() -> None:
    """Worked out by hand: 0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 is at least as high as the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    ("t", "groups", "exact"),
    [(2.0, 21, 0.0593), (3.0, 11, 0.01334), (1.0, 6, 0.3632), (4.0, 1000, 6.81e-5), (6.0, 31, 1.41e-6)],
)
def test_a_p_value_is_that_of_students_t(t: float, groups: int, exact: float) -> None:
    """The exact values are printed in tables of the distribution, or follow from its density by integration."""
    found = p_value(Estimate(t, t - student(groups - 1), t + student(groups - 1)), groups - 1)
    degrees, steps = groups - 1, 50_000
    far = torch.linspace(t, t + 200, steps + 1, dtype=torch.float64)
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    density = scale * (1 + far.square() / degrees) ** (-(degrees + 1) / 2)
    assert found == pytest.approx(2 * float(torch.trapezoid(density, far)), rel=0.05)
    assert found == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("groups", [6, 12, 25])
def test_the_p_value_of_an_extreme_difference_is_that_of_its_whole_interval(groups: int) -> None:
    """One model finds everything, and the other nothing. Bonett and Price add a pair on which each is right alone, so
    that the mean is below 1, and the interval reaches beyond 1."""
    apart = Share(torch.ones(groups)).difference(Share(torch.zeros(groups)), torch.arange(groups))
    pairs = torch.tensor([1.0] * (groups + 1) + [-1.0], dtype=torch.float64)
    error = float(pairs.std()) / math.sqrt(groups + 2)
    assert apart.high > 1
    assert p_value(apart, groups - 1) == pytest.approx(
        2 * student_t.sf(float(pairs.mean()) / error, groups - 1), rel=0.02
    )


def test_a_p_value_counts_the_observations_of_its_interval() -> None:
    """A jackknife over 640 samples has 32 blocks, and a worst part only its own samples."""
    random, group = torch.Generator().manual_seed(0), torch.arange(640)
    values = torch.randn(640, generator=random, dtype=torch.float64)
    mean = Jackknifed(values + 0.13, lambda rows: float(rows.mean()))
    none = Jackknifed(torch.zeros(640), lambda rows: float(rows.mean()))
    blocks = torch.stack([(values + 0.13)[torch.arange(640) % 32 == block].mean() for block in range(32)])
    apart, degrees = mean.difference(none, group), mean.degrees(none, group)
    assert p_value(apart, degrees) == pytest.approx(ttest_1samp(blocks, 0).pvalue, rel=0.02)
    part = (group >= 12).long()
    one, other = (worst_share(part.bool() | (group < first), part) for first in (4, 9))
    assert other.degrees(one, group) == 11


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=60))
def test_a_p_value_is_below_a_twentieth_exactly_if_the_interval_excludes_zero(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = (torch.tensor(column) for column in zip(*pairs, strict=True))
    apart = Share(ours).difference(Share(theirs), torch.arange(len(pairs)))
    p = p_value(apart, len(pairs) - 1)
    assert 0 <= p <= 1
    if abs(p - 0.05) > 1e-9:
        assert (p < 0.05) == (apart.low > 0 or apart.high < 0)


def test_without_a_difference_or_with_a_single_group_nothing_is_significant() -> None:
    equal = torch.tensor([True, False, True])
    assert p_value(Share(equal).difference(Share(equal), torch.arange(3)), 2) == 1
    apart = Share(torch.ones(4)).difference(Share(torch.zeros(4)), torch.zeros(4, dtype=torch.long))
    assert p_value(apart, 0) == 1


def test_equally_good_models_are_rarely_called_different() -> None:
    """Of 100 comparisons of 10 metrics each, at most a few have any verdict; without a correction, a third would."""
    generator = torch.Generator().manual_seed(0)
    corrected = raw = 0
    for _ in range(100):
        hits = torch.rand(2, 10, 80, generator=generator) < 0.6
        found = [Share(a).difference(Share(b), torch.arange(80)) for a, b in zip(*hits, strict=True)]
        p_values = [p_value(one, 79) for one in found]
        raw += min(p_values) < 0.05
        corrected += min(holm(p_values)) < 0.05
    assert raw > 25
    assert corrected <= 100 * 0.05 + 3 * math.sqrt(100 * 0.05 * 0.95)

"""Bootstrap intervals against the theory of what they estimate."""

import math

import pytest
import torch

from tercet.eval.bootstrap import bootstrap, class_mean, difference, mean, median


def test_the_interval_of_a_share_is_the_binomial_one() -> None:
    hits = torch.tensor([1.0] * 300 + [0.0] * 100)
    found = bootstrap({"share": mean(hits)}, torch.arange(400), resamples=4000)["share"]
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert found.value == pytest.approx(0.75)
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.005)


def test_five_queries_of_an_item_are_one_observation() -> None:
    hits = torch.tensor([1.0] * 60 + [0.0] * 40).repeat_interleave(5)
    items = torch.arange(100).repeat_interleave(5)
    clustered = bootstrap({"share": mean(hits)}, items)["share"]
    apart = bootstrap({"share": mean(hits)}, torch.arange(500))["share"]
    assert (clustered.high - clustered.low) / (apart.high - apart.low) == pytest.approx(math.sqrt(5), rel=0.1)


def test_statistics_of_a_resample_are_those_of_the_rows_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(1, 30, (41,), generator=generator)
    classes = torch.randint(0, 5, (41,), generator=generator)
    weights = torch.randint(0, 4, (6, 41), generator=generator)
    for row in weights:
        written = values.repeat_interleave(row).double()
        named = classes.repeat_interleave(row)
        recalls = [float((written[named == label] > 15).double().mean()) for label in named.unique()]
        one = row[None].double()
        assert mean(values)(one).item() == pytest.approx(written.mean().item())
        assert median(values)(one).item() == written.median().item()
        assert class_mean(values > 15, classes)(one).item() == pytest.approx(sum(recalls) / len(recalls))


def test_the_seed_decides() -> None:
    values = {"mean": mean(torch.randn(50, generator=torch.Generator().manual_seed(1)))}
    assert bootstrap(values, torch.arange(50), seed=3) == bootstrap(values, torch.arange(50), seed=3)
    assert bootstrap(values, torch.arange(50), seed=3) != bootstrap(values, torch.arange(50), seed=4)


def test_the_interval_of_a_difference_is_that_of_a_loop_that_draws_items() -> None:
    """Each resample written out: the rows of the drawn items for both models, and the difference of their means."""
    generator = torch.Generator().manual_seed(2)
    items = torch.arange(60).repeat_interleave(2)
    first, second = (torch.rand(120, generator=generator) < share for share in (0.5, 0.6))
    found = bootstrap({"apart": difference(mean(first), mean(second))}, items, seed=5, resamples=400, chunk=400)
    drawn = torch.randint(60, (400, 60), generator=torch.Generator().manual_seed(5))
    apart = []
    for resample in drawn.tolist():
        rows = [row for item in resample for row in (2 * item, 2 * item + 1)]
        apart.append(sum(int(second[row]) - int(first[row]) for row in rows) / len(rows))
    low, high = torch.tensor(apart, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    assert found["apart"] == pytest.approx((float((second.int() - first.int()).double().mean()), low, high))


def test_the_interval_of_a_difference_covers_it_nineteen_times_in_twenty() -> None:
    """Two models that find the same items easy: 0.05 apart, which intervals side by side could not tell."""
    generator = torch.Generator().manual_seed(3)
    covered, width, apart_width = 0, 0.0, 0.0
    for _ in range(300):
        ease = torch.rand(200, generator=generator)
        first, second = ease < 0.50, (ease - 0.05 + 0.05 * torch.randn(200, generator=generator)) < 0.50
        statistics = {"apart": difference(mean(first), mean(second)), "first": mean(first), "second": mean(second)}
        found = bootstrap(statistics, torch.arange(200), seed=int(1000 * ease[0]), resamples=200)
        covered += found["apart"].low <= 0.05 <= found["apart"].high
        width += found["apart"].high - found["apart"].low
        apart_width += found["second"].high - found["first"].low
    assert 0.92 <= covered / 300 <= 0.98
    assert width < 0.6 * apart_width

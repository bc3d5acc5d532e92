"""Bootstrap intervals against the theory of what they estimate."""

import math

import pytest
import torch

from tercet.eval.bootstrap import bootstrap, class_mean, mean, median


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

"""Two models against each other: verdicts that follow the metric's direction, and only on what both of them saw."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.eval.compare import compare, same_items
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError
from tercet.eval.evaluate import evaluate, measure
from tercet.eval.measure import Measure


def table(spread: float, items: int = 150, rows: int = 1) -> EmbeddingTable:
    """Pictures and captions that stand so far from what they have in common; each comes in so many rows of a group."""
    base = torch.randn(items, 12, generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)
    views = {side: base + spread * torch.randn(items, 12, generator=noise) for side in ("image", "text")}
    item = torch.arange(items * rows)
    samples = tuple(Sample(str(number), number, number // rows) for number in range(items * rows))
    vectors = {side: F.normalize(view, dim=1).repeat_interleave(rows, dim=0) for side, view in views.items()}
    return EmbeddingTable(vectors, dict.fromkeys(views, item), samples)


def unasked(texts: list[str]) -> Tensor:
    raise AssertionError("retrieval embeds no text")


def measures(spread: float, rows: int = 1) -> list[Measure]:
    return measure(table(spread, rows=rows), unasked, ["retrieval"], EvalConfig())


def test_the_better_model_wins_in_shares_and_in_ranks() -> None:
    found = compare(measures(1.2), measures(0.6))
    assert {one.better for one in found if one.metric in ("R@1", "mean rank")} == {True}
    assert {one.better for one in compare(measures(0.6), measures(1.2)) if one.metric == "R@1"} == {False}


def test_values_and_differences_equal_those_of_two_evaluations() -> None:
    found = {(one.subject, one.metric): one for one in compare(measures(1.2), measures(0.6))}
    values = [
        {(one.subject, one.metric): one.value for one in evaluate(table(spread), unasked, ["retrieval"], EvalConfig())}
        for spread in (1.2, 0.6)
    ]
    assert found.keys() == values[0].keys()
    for key, one in found.items():
        assert (one.baseline, one.other) == pytest.approx((values[0][key], values[1][key]))
        assert one.apart.value == pytest.approx(values[1][key] - values[0][key])


def test_the_interval_of_an_extreme_difference_holds_possible_values_only() -> None:
    few, none = table(0.0, items=8), table(50.0, items=8)
    found = compare(*(measure(one, unasked, ["retrieval"], EvalConfig()) for one in (none, few)))
    apart = {one.metric: one.apart for one in found}
    assert apart["R@1"].high == 1
    assert apart["mean rank"].low >= -7


def test_a_model_does_not_differ_from_itself() -> None:
    for one in compare(measures(1.0), measures(1.0)):
        assert one.better is None
        assert one.apart.value == 0
        assert one.apart.low == pytest.approx(-one.apart.high)


def test_models_that_saw_different_samples_are_not_compared() -> None:
    with pytest.raises(EvalError, match="only one of the models can use 10 of the samples"):
        same_items(table(1.0), table(1.0, items=140))


def test_rows_that_repeat_a_picture_and_its_caption_do_not_narrow_an_interval() -> None:
    """Four equal rows of a group are one observation, for a result and for a difference."""
    once, often = (compare(measures(1.2, rows), measures(0.9, rows)) for rows in (1, 4))
    for one, many in zip(once, often, strict=True):
        if one.metric == "R@1":
            assert many.apart == pytest.approx(one.apart)
            assert (one.n, many.n) == (150, 600)
    ours = {(found.name, found.metadata.get("groups")) for one in measures(0.9, rows=4) for found in one.results()}
    assert ("image→text R@1", 150) in ours

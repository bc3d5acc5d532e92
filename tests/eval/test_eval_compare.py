"""Two models against each other: verdicts that follow the metric's direction, and only on what both of them saw."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tercet.data_pipelines.sample import Sample
from tercet.eval.compare import compare, same_items
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, EvalError
from tercet.eval.evaluate import evaluate, measure
from tercet.eval.measure import Measure


def table(spread: float, items: int = 150) -> EmbeddingTable:
    """Pictures and captions that stand so far from what they have in common."""
    base = torch.randn(items, 12, generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)
    views = {side: base + spread * torch.randn(items, 12, generator=noise) for side in ("image", "text")}
    item = torch.arange(items)
    samples = tuple(Sample(str(number), number, number) for number in range(items))
    return EmbeddingTable(
        {side: F.normalize(rows, dim=1) for side, rows in views.items()}, dict.fromkeys(views, item), samples
    )


def unasked(texts: list[str]) -> Tensor:
    raise AssertionError("retrieval embeds no text")


def measures(spread: float) -> list[Measure]:
    return measure(table(spread), unasked, ["retrieval"], EvalConfig())


def test_the_better_model_is_better_in_shares_and_in_ranks() -> None:
    found = compare(measures(1.2), measures(0.6))
    assert {contrast.better for contrast in found if contrast.metric in ("R@1", "mean rank")} == {True}
    assert {contrast.better for contrast in compare(measures(0.6), measures(1.2)) if contrast.metric == "R@1"} == {
        False
    }


def test_values_and_differences_are_those_of_the_two_evaluations() -> None:
    found = {(contrast.subject, contrast.metric): contrast for contrast in compare(measures(1.2), measures(0.6))}
    values = [
        {(one.subject, one.metric): one.value for one in evaluate(table(spread), unasked, ["retrieval"], EvalConfig())}
        for spread in (1.2, 0.6)
    ]
    assert found.keys() == values[0].keys()
    for key, contrast in found.items():
        assert (contrast.baseline, contrast.other) == pytest.approx((values[0][key], values[1][key]))
        assert contrast.apart.value == pytest.approx(values[1][key] - values[0][key])


def test_a_model_is_not_told_apart_from_itself() -> None:
    for contrast in compare(measures(1.0), measures(1.0)):
        assert contrast.better is None
        assert contrast.apart == (0, 0, 0)


def test_models_that_saw_different_samples_are_not_compared() -> None:
    with pytest.raises(EvalError, match="10 samples are usable to one of the models only"):
        same_items(table(1.0), table(1.0, items=140))

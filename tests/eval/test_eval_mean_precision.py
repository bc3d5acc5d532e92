"""mAP without each block of items, and its interval, against average precisions that are computed anew."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from sklearn.metrics import average_precision_score
from torch import Tensor

from tercet.eval.classification.mean_precision import MeanPrecision, average_precision, precision_without
from tercet.eval.statistics.jackknife import BLOCKS, jackknife


def anew(scores_nK: Tensor, right_nK: Tensor, fold_n: Tensor, kept_n: Tensor) -> float:
    """By scikit-learn: the mean over folds of that over the classes with a label."""
    found = []
    for fold in torch.unique(fold_n[kept_n]):
        rows = kept_n & (fold_n == fold)
        known = right_nK[rows].any(dim=0)
        if known.any():
            each = average_precision_score(right_nK[rows][:, known], scores_nK[rows][:, known], average=None)
            found.append(float(each.mean()))
    return sum(found) / len(found)


@pytest.mark.parametrize(("items", "folds"), [(90, 1), (130, 3)])
def test_the_interval_is_that_of_scores_without_each_block(items: int, folds: int) -> None:
    draw = torch.Generator().manual_seed(items)
    right = torch.rand(items, 7, generator=draw) < torch.linspace(0.02, 0.6, 7)
    right[:, 3] = False
    scores = torch.randn(items, 7, generator=draw) + right
    other = torch.randn(items, 7, generator=draw)
    fold, group = torch.arange(items) % folds, torch.arange(items) // 2  # some blocks have several groups
    assert items // 2 > BLOCKS
    given = None if folds == 1 else fold
    model, baseline = MeanPrecision(scores, right, given), MeanPrecision(other, right, given)
    expected = jackknife(lambda kept: anew(scores, right, fold, kept), group).estimate.within(0.0, 1.0)
    assert model.estimate(group) == pytest.approx(expected)
    apart = jackknife(lambda kept: anew(scores, right, fold, kept) - anew(other, right, fold, kept), group)
    assert model.difference(baseline, group) == pytest.approx(apart.estimate)


@settings(max_examples=60, deadline=None, database=None)
@given(some.lists(some.tuples(some.integers(0, 3), some.booleans(), some.integers(0, 2)), min_size=1, max_size=12))
def test_a_class_without_a_block_is_ranked_as_anew_also_with_ties(cases: list[tuple[int, bool, int]]) -> None:
    scores, right, block = (torch.tensor(column) for column in zip(*cases, strict=True))
    rest = [average_precision(scores[block != one].float(), right[block != one]) for one in range(3)]
    found = precision_without(scores.float(), right, block, 3)
    assert found.tolist() == pytest.approx([float(one) for one in rest], nan_ok=True)


def test_labels_of_one_group_alone_have_the_widest_interval() -> None:
    scores, right = torch.rand(9, 2), torch.zeros(9, 2, dtype=torch.bool)
    right[0] = True
    found = MeanPrecision(scores, right)
    assert found.estimate(torch.arange(9)) == (found.value, 0.0, 1.0)

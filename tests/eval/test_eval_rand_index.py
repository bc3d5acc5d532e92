"""The adjusted Rand index equals a count over all pairs of items."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import UserError
from tercet.eval.statistics.rand_index import adjusted_rand_index

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 2)), min_size=1, max_size=14)


def naive(labels: list[tuple[int, int]]) -> float:
    """By the four kinds of pairs: together in both, in one, in the other, in none."""
    kinds = {(a, b): 0 for a in (True, False) for b in (True, False)}
    for (a, b), (c, d) in combinations(labels, 2):
        kinds[a == c, b == d] += 1
    both, one, other, none = (kinds[kind] for kind in ((True, True), (True, False), (False, True), (False, False)))
    below = (both + one) * (one + none) + (both + other) * (other + none)
    return 2 * (both * none - one * other) / below if below else 1.0


@given(LABELS)
def test_equals_a_count_over_all_pairs(labels: list[tuple[int, int]]) -> None:
    one, other = torch.tensor(labels).T
    assert adjusted_rand_index(one, other) == pytest.approx(naive(labels), abs=1e-12)
    assert adjusted_rand_index(other, one) == pytest.approx(naive(labels), abs=1e-12)


def test_known_values() -> None:
    one = torch.tensor([0, 0, 1, 1])
    assert adjusted_rand_index(one, torch.tensor([7, 7, -1, -1])) == 1
    assert adjusted_rand_index(one, torch.tensor([0, 1, 0, 1])) == pytest.approx(-0.5)
    assert adjusted_rand_index(one, torch.tensor([0, 0, 1, 2])) == pytest.approx(4 / 7)  # as in scikit-learn's manual


def test_unrelated_groupings_are_0_on_average() -> None:
    random = torch.Generator().manual_seed(0)
    found = [adjusted_rand_index(*torch.randint(5, (2, 60), generator=random, dtype=torch.int64)) for _ in range(400)]
    mean, error = torch.tensor(found).mean(), torch.tensor(found).std() / 20
    assert abs(float(mean)) < 4 * float(error)


def test_groupings_of_different_items_are_rejected() -> None:
    with pytest.raises(UserError, match=r"shape \[3\] and \[2\]; give one label for each item in both"):
        adjusted_rand_index(torch.arange(3), torch.arange(2))

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tercet.data_pipelines.keyed import keyed
from tercet.data_pipelines.order import Order

orders = st.builds(Order, count=st.integers(1, 50), seed=st.integers(0, 2**63))


@given(order=orders, epoch=st.integers(0, 1000))
def test_each_epoch_is_a_permutation(order: Order, epoch: int) -> None:
    ids = order.slice(epoch * order.count, (epoch + 1) * order.count)
    assert sorted(ids.tolist()) == list(range(order.count))


@given(order=orders, cuts=st.lists(st.integers(0, 200), min_size=2, max_size=8))
def test_slices_agree_with_single_positions_however_they_are_cut(order: Order, cuts: list[int]) -> None:
    cuts = sorted(cuts)
    parts = [order.slice(start, stop) for start, stop in pairwise(cuts)]
    assert np.concatenate(parts).tolist() == [order.at(position) for position in range(cuts[0], cuts[-1])]


def test_epochs_and_seeds_differ_and_every_place_is_alike() -> None:
    rows = np.stack([Order(20, seed).slice(20 * epoch, 20 * epoch + 20) for seed in range(40) for epoch in range(40)])
    assert len({tuple(row) for row in rows.tolist()}) == 1600
    counts = np.stack([np.bincount(column, minlength=20) for column in rows.T])
    chi_square = float(((counts - 80) ** 2 / 80).sum())
    assert abs(chi_square - 19 * 19) < 5 * np.sqrt(2 * 19 * 19)  # 19² degrees of freedom


def test_the_order_is_the_one_that_earlier_runs_had() -> None:
    """A resumed run must find its samples again: these numbers may never change."""
    numbers = [0, 4, 5, 1, 7, 0, 4, 2, 5, 3, 9, 1, 8, 6, 7, 8, 6, 1, 9, 4]
    assert Order(10, 7).slice(5, 25).tolist() == numbers


def test_streams_of_different_keys_differ() -> None:
    keys = [("a", 0, 0, 0), ("b", 0, 0, 0), ("a", 1, 0, 0), ("a", 0, 1, 0), ("a", 0, 0, 1), ("a", 0, 1, 1)]
    draws = [tuple(keyed(*key).random(3)) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [tuple(keyed(*key).random(3)) for key in keys]

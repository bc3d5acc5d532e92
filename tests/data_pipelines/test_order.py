"""The order of samples: every one once an epoch, the same however it is asked for, each rank's from its own shards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.plans.order import Shuffled, reversed_digits
from tercet.data_pipelines.plans.shuffle import shuffled
from tercet.data_pipelines.seeding import draws_of, key_of, keys, uniforms

SHARDS = st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any)


@settings(max_examples=60)
@given(SHARDS, st.sampled_from([1, 4, 12, 256]), st.integers(1, 40), st.integers(0, 9))
def test_every_epoch_has_every_sample_once(counts: list[int], streams: int, window: int, seed: int) -> None:
    order = Shuffled(np.array(counts), seed, streams, window)
    for epoch in range(3):
        start = epoch * order.samples
        ids = order.at(np.arange(start, start + order.samples))
        assert sorted(ids.tolist()) == list(range(sum(counts)))
        assert {order.epoch(start), order.epoch(start + order.samples - 1)} == {epoch}


@settings(max_examples=30)
@given(SHARDS, st.lists(st.integers(0, 500), min_size=1))
def test_a_single_position_gives_the_same_sample(counts: list[int], positions: list[int]) -> None:
    order, fresh = Shuffled(np.array(counts), 5, 8, 16), Shuffled(np.array(counts), 5, 8, 16)
    together = order.at(np.array(positions))
    assert together.tolist() == [fresh.at(np.array([position])).item() for position in reversed(positions)][::-1]


def test_seeds_and_epochs_differ() -> None:
    counts = np.array([40, 60])
    first, other = (Shuffled(counts, seed).at(np.arange(300)).reshape(3, 100) for seed in (1, 2))
    orders = {tuple(ids) for ids in (*first.tolist(), *other.tolist())}
    assert len(orders) == 6


def test_a_batch_takes_equally_many_samples_from_each_stream() -> None:
    order = Shuffled(np.full(20, 50), 0, streams=16)
    for start in (0, 64, 960, 1024):
        pieces = order.piece(np.arange(start, start + 64))
        assert np.bincount(pieces, minlength=16).tolist() == [4] * 16


@pytest.mark.parametrize("world", [2, 4, 8])
def test_a_rank_reads_only_its_share_of_the_shards(world: int) -> None:
    order = Shuffled(np.full(64, 100), 1, 256, 32)
    positions = np.arange(3 * order.samples)
    rank = order.piece(positions) * world // 256
    touched = [set((order.at(positions[rank == one]) // 100).tolist()) for one in range(world)]
    assert [len(shards) for shards in touched] == [64 // world] * world
    assert set.union(*touched) == set(range(64))


def test_neighbours_in_a_shard_are_not_always_in_the_same_batch() -> None:
    """With fewer shards than streams, a stream is not a fixed range of a shard: its samples change each epoch."""
    order = Shuffled(np.array([256]), 0, 16)
    batches = order.at(np.arange(40 * 256)).reshape(-1, 16)
    met = sum({3, 4} <= set(batch) for batch in batches.tolist())
    assert met == pytest.approx(40 * 15 / 255, abs=6)  # the batches of 40 epochs that would hold both by chance


@pytest.mark.parametrize("count", [2, 3, 5, 10, 39, 65])
def test_shuffles_are_uniform(count: int) -> None:
    """χ² test of where each element goes, over many keys, within six standard deviations."""
    times = 4000
    key = np.repeat(keys("test", 1, 0, np.arange(times)), count)
    goes = shuffled(np.tile(np.arange(count), times), count, key).reshape(times, count)
    assert (np.sort(goes, 1) == np.arange(count)).all()
    expected = times / count
    square = sum(((np.bincount(place, minlength=count) - expected) ** 2 / expected).sum() for place in goes.T)
    freedom = (count - 1) ** 2
    assert abs(square - freedom) < 6 * np.sqrt(2 * freedom)


def test_each_element_may_have_its_own_permutation() -> None:
    count = np.array([3, 7, 100, 7, 3])
    key = keys("test", 0, 0, np.array([1, 2, 3, 2, 1]))
    element = np.array([0, 6, 50, 6, 0])
    alone = [shuffled(element[i : i + 1], count[i], key[i : i + 1]).item() for i in range(5)]
    assert shuffled(element, count, key).tolist() == alone
    assert alone[0] == alone[4]
    assert alone[1] == alone[3]


def test_reversed_digits_equal_a_naive_computation() -> None:
    assert reversed_digits(8).tolist() == [int(f"{n:03b}"[::-1], 2) for n in range(8)]
    assert sorted(reversed_digits(60).tolist()) == list(range(60))
    assert reversed_digits(1).tolist() == [0]


def test_draws_are_uniform_and_depend_on_each_part_of_the_key() -> None:
    draws = uniforms("a", 1, 0, np.arange(20_000), 3)
    assert np.allclose(draws.mean(0), 0.5, atol=0.01)
    assert np.allclose(draws.std(0), 12**-0.5, atol=0.01)
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.03
    assert (uniforms("a", 1, 0, np.array([7]), 3) == draws[7]).all()
    others = [uniforms("b", 1, 0, [7], 3), uniforms("a", 2, 0, [7], 3), uniforms("a", 1, 1, [7], 3)]
    assert all((other != draws[7]).all() for other in others)


@given(st.text(), st.integers(0, 2**64 - 1), st.integers(0, 8))
def test_the_draws_of_one_key_are_those_of_many(purpose: str, seed: int, count: int) -> None:
    assert key_of(purpose, seed) == keys(purpose, seed, 0, [0])[0]
    assert draws_of(purpose, seed, count) == uniforms(purpose, seed, 0, [0], count)[0].tolist()

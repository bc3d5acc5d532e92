"""Compares sketches of many values with numpy and plain counters."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.survey.content import Equals, content_hash
from tercet.data_pipelines.survey.sketch import Bottom, Distribution, Frequent, marks

VALUES = st.lists(st.floats(1e-6, 1e9) | st.just(0.0), min_size=1, max_size=200)


def distribution(values: list[float]) -> Distribution:
    found = Distribution()
    for value in values:
        found.add(value)
    return found


@given(values=VALUES, share=st.sampled_from([0.0, 0.05, 0.25, 0.5, 0.9, 1.0]))
def test_quantiles_are_within_one_per_cent(values: list[float], share: float) -> None:
    found, exact = distribution(values).quantile(share), float(np.quantile(values, share, method="lower"))
    assert found == pytest.approx(exact, rel=0.0101, abs=1e-12)


def test_whole_numbers_have_whole_quantiles() -> None:
    assert [distribution([3, 5, 5, 7, 640]).quantile(share) for share in (0, 0.5, 1)] == [3, 5, 640]


@given(values=VALUES, cut=st.integers(0, 200))
def test_merged_sketches_equal_the_sketch_of_all_values(values: list[float], cut: int) -> None:
    merged, whole = distribution(values[:cut]), distribution(values)
    merged.merge(distribution(values[cut:]))
    assert merged.bins == whole.bins
    assert {**merged.to_json(), "mean": 0} == {**whole.to_json(), "mean": 0}
    assert merged.sum == pytest.approx(sum(values))


def test_the_bins_hold_the_values() -> None:
    values = np.random.default_rng(0).lognormal(3, 2, 5000)
    spans = list(distribution(values.tolist()).spans())
    for low, high, count in spans[1:-1]:
        assert count == np.count_nonzero((values > low) & (values <= high))
    assert sum(count for *_, count in spans) == len(values)
    assert len(spans) < 1000


def test_counts_of_frequent_values_are_within_the_stated_error() -> None:
    things = [f"w{n}" for n in np.random.default_rng(1).zipf(1.5, 20_000).tolist()]
    exact, found = Counter(things), Frequent(100)
    for start in range(0, len(things), 50):
        found.add(things[start : start + 50])
    assert 0 < found.lost < len(things) / 100
    for thing, count in found.most_common(20):
        assert exact[thing] - found.lost <= count <= exact[thing]
    assert {thing for thing, count in exact.items() if count > found.lost} <= {t for t, _ in found.most_common(1000)}


def test_few_values_are_counted_exactly() -> None:
    found = Frequent(10)
    found.add(["b", "a", "c", "a", "b", "a"])
    assert found.most_common(2) == [("a", 3), ("b", 2)]
    assert (found.lost, found.total()) == (0, 6)


@given(st.lists(st.integers(0, 10_000), unique=True, max_size=80), st.integers(0, 80), st.integers(1, 20))
def test_a_kept_sample_does_not_depend_on_the_parts(ids: list[int], cut: int, room: int) -> None:
    def kept(some: list[int]) -> Bottom[str]:
        bottom: Bottom[str] = Bottom(room)
        for id, mark in zip(some, marks(some).tolist(), strict=True):
            bottom.offer(mark, id, f"item {id}")
        return bottom

    merged = kept(ids[cut:])
    merged.merge(kept(ids[:cut]))
    lowest = sorted(ids, key=lambda id: int(marks([id])[0]))[:room]
    assert list(merged) == list(kept(ids)) == [f"item {id}" for id in sorted(lowest)]


def test_kept_samples_are_spread_evenly() -> None:
    """Keeps one sample in ten, equally many from each tenth of the ids, within four standard deviations."""
    bottom: Bottom[int] = Bottom(2000)
    for id, mark in enumerate(marks(np.arange(20_000)).tolist()):
        bottom.offer(mark, id, id)
    tenths = np.bincount(np.array(list(bottom)) // 2000, minlength=10)
    assert tenths.sum() == 2000
    assert np.abs(tenths - 200).max() < 4 * np.sqrt(200 * 0.9 * 0.9)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 30)), max_size=120), st.sampled_from([3, 20, 10_000]))
def test_equal_hashes_are_found_across_parts(rows: list[tuple[int, int]], held: int) -> None:
    equals, naive = Equals(held), defaultdict(set)
    for start in range(0, len(rows), 7):
        part = [(content_hash(str(thing).encode()), id) for thing, id in rows[start : start + 7]]
        equals.add([hash for hash, _ in part], [id for _, id in part])
    for thing, id in rows:
        naive[thing].add(id)
    found = sorted(ids.tolist() for ids in equals.groups())
    assert found == sorted(sorted(ids) for ids in naive.values() if len(ids) > 1)

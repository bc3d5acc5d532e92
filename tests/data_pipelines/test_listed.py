"""Orders over lists: each sample as often as listed, pure in seed and position, the same on any number of processes."""

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.plans.listed import Listed
from tercet.data_pipelines.plans.members import Members
from tercet.data_pipelines.plans.order import Shuffled
from tercet.data_pipelines.plans.plan import Plan, read_plan
from tercet.data_pipelines.plans.sample_list import SampleList, read_list
from tercet.data_pipelines.plans.schedule import make_schedule
from tercet.data_pipelines.sample import Batch
from tercet.errors import UserError
from tests.data_pipelines.memory import INTAKES, Captions

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any)


def listing(data: st.DataObject, counts: Sequence[int]) -> np.ndarray:
    times = st.lists(st.sampled_from([0, 0, 1, 1, 2, 5]), min_size=sum(counts), max_size=sum(counts))
    return np.array(data.draw(times.filter(any)), dtype=np.uint8)


@settings(max_examples=25, deadline=None)
@given(st.data(), COUNTS, st.sampled_from([1, 4, 12, 256]), st.integers(1, 40), st.integers(0, 9))
def test_every_epoch_holds_each_sample_as_often_as_listed(
    data: st.DataObject, counts: list[int], streams: int, window: int, seed: int
) -> None:
    times = listing(data, counts)
    order = Listed(np.array(counts), times, seed, streams, window)
    assert order.samples == times.sum()
    seen: list[tuple[int, int]] = []
    for epoch in range(3):
        positions = np.arange(epoch * order.samples, (epoch + 1) * order.samples)
        ids = order.at(positions)
        assert np.array_equal(np.bincount(ids, minlength=len(times)), times)
        seen += zip(ids.tolist(), order.appearance(positions).tolist(), strict=True)
        assert {order.epoch(int(positions[0])), order.epoch(int(positions[-1]))} == {epoch}
    assert len(set(seen)) == len(seen)  # no two appearances of a sample share their random draws


@settings(max_examples=30, deadline=None)
@given(st.data(), COUNTS, st.lists(st.integers(0, 500), min_size=1))
def test_a_single_position_gives_the_same_sample(data: st.DataObject, counts: list[int], positions: list[int]) -> None:
    times = listing(data, counts)
    order, fresh = (Listed(np.array(counts), times, 5, 8, 16) for _ in range(2))
    together = order.at(np.array(positions))
    assert together.tolist() == [fresh.at(np.array([position])).item() for position in reversed(positions)][::-1]


@settings(max_examples=20, deadline=None)
@given(COUNTS, st.integers(0, 9))
def test_a_list_of_all_samples_gives_the_same_order_as_no_list(counts: list[int], seed: int) -> None:
    every = np.ones(sum(counts), dtype=np.uint8)
    order, whole = Listed(np.array(counts), every, seed, 8, 16), Shuffled(np.array(counts), seed, 8, 16)
    positions = np.arange(3 * sum(counts))
    for of in ("at", "piece", "appearance"):
        assert np.array_equal(getattr(order, of)(positions), getattr(whole, of)(positions))


def test_seeds_and_epochs_differ_and_appearances_are_spread() -> None:
    """50 samples appear four times among 300. As in a random order, few appearances follow each other."""
    times = np.where(np.arange(150) % 3 == 0, 4, 1).astype(np.uint8)
    orders = [Listed(np.full(15, 10), times, seed, 4, 16).at(np.arange(600)).reshape(2, 300) for seed in (1, 2)]
    assert len({tuple(ids) for ids in np.concatenate(orders).tolist()}) == 4
    gaps = [np.diff(np.flatnonzero(order == id)) for both in orders for order in both for id in range(0, 150, 3)]
    assert np.mean(np.concatenate(gaps) <= 10) < 0.25  # were the appearances kept together, it would be most of them


@settings(max_examples=40, deadline=None)
@given(st.data(), COUNTS)
def test_members_are_numbered_in_the_order_of_their_ids(data: st.DataObject, counts: list[int]) -> None:
    times = listing(data, counts)
    for listed in (None, SampleList("l.csv", "d", times)):
        members = Members(np.array(counts), listed)
        ids = list(range(sum(counts))) if listed is None else np.flatnonzero(times).tolist()
        assert [members.id(number) for number in range(len(members))] == ids
        assert [members.number(id) for id in ids] == list(range(len(ids)))
        shard_of = np.repeat(np.arange(len(counts)), counts)
        for id in ids:
            begin, end = members.near(id)
            assert [members.id(number) for number in range(begin, end)] == [
                other for other in ids if shard_of[other] == shard_of[id]
            ]


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, str]:
    """Of two sources: one in which some come three times, and one by keys."""
    rows = {"often": [f"{id},{1 + 2 * (id % 5 == 0)}" for id in range(0, 60, 3)], "keyed": ["7", "2", "11"]}
    heads = {"often": "id,count", "keyed": "key"}
    for name, listed in rows.items():
        (tmp_path / f"{name}.csv").write_text("\n".join([heads[name], *listed]))
    return {name: str(tmp_path / f"{name}.csv") for name in rows}


def loader(lists: dict[str, str], batch_size: int = 8, bad: int = 0, **options: object) -> Loader:
    sources = {
        "often": Captions("often", [25, 0, 20, 15], bad),
        "keyed": Captions("keyed", [12]),
        "all": Captions("all", [9]),
    }
    workers = {name: options.pop(name) for name in ("workers", "worker") if name in options}
    train = {
        "often": {"source": "o", "list": lists["often"], "weight": 2},
        "keyed": {"source": "k", "list": lists["keyed"]},
        "all": "a",
    }
    data = DataConfig.model_validate(
        {"train": train, "streams": 4, "window": 6, "workers": 0, "crop": None, "max_bad": 1.0, **workers}
    )
    return Loader(data, sources, INTAKES, batch_size, seed=5, **options)  # type: ignore[arg-type]


def ids(batches: Sequence[Batch]) -> list[list[int]]:
    return [batch.ids.tolist() for batch in batches]


def test_batches_mix_the_listed_samples_by_weight(lists: dict[str, str]) -> None:
    """An epoch of the first source has 28 samples (20, of which 4 appear three times), half of each batch."""
    batches = list(islice(loader(lists), 14))
    drawn = Counter(id for batch in ids(batches) for id in batch)
    assert {id: count for id, count in drawn.items() if id < 60} == {
        id: 2 * (3 if id % 5 == 0 else 1) for id in range(0, 60, 3)
    }
    assert {id - 60 for id in drawn if 60 <= id < 72} == {2, 7, 11}
    assert {id - 72 for id in drawn if id >= 72} == set(range(9))
    assert batches[-1].cursors == {"often": 56, "keyed": 28, "all": 28}


@pytest.mark.parametrize(("world", "options"), [
    (2, {}), (4, {"workers": 2, "worker": "thread"}), (2, {"workers": 1, "worker": "process"}),
])  # fmt: skip
def test_batches_do_not_depend_on_the_numbers_of_ranks_and_workers(
    lists: dict[str, str], world: int, options: dict[str, object]
) -> None:
    straight = ids(list(islice(loader(lists), 10)))
    ranks = [ids(list(islice(loader(lists, rank=rank, world=world, **options), 10))) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == straight
    start = {"often": 16, "keyed": 8, "all": 8}
    assert ids(list(islice(loader(lists, start=start), 6))) == straight[4:]


def test_substitutes_for_broken_samples_come_from_the_list(lists: dict[str, str]) -> None:
    """Every ninth sample is broken: 0, 9, 18, …"""
    drawn = {id for batch in ids(list(islice(loader(lists, bad=9), 20))) for id in batch if id < 60}
    assert drawn == {id for id in range(0, 60, 3) if id % 9}


def test_a_list_is_pickled_as_the_name_of_its_file(lists: dict[str, str]) -> None:
    listed = read_list(lists["often"], Captions("often", [10**6]))
    sent = pickle.dumps(listed)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent).times_N, listed.times_N)


def test_a_source_that_does_not_repeat_ends_with_its_list(lists: dict[str, str]) -> None:
    data = DataConfig.model_validate(
        {"train": {"source": "k", "list": lists["keyed"], "repeat": False}, "workers": 0, "streams": 4}
    )
    batches = list(Loader(data, {"train": Captions("keyed", [12])}, INTAKES, 3, seed=5))
    assert [sorted(batch) for batch in ids(batches)] == [[2, 7, 11]]


def test_another_list_is_another_plan_and_cannot_be_resumed(lists: dict[str, str], tmp_path: Path) -> None:
    data = DataConfig.model_validate({"train": {"source": "k", "list": lists["keyed"]}})
    source = Captions("keyed", [12])

    def planned() -> Plan:
        return make_schedule(data, {"train": source}, 1, seed=0).plan

    before = planned()
    assert (before.shares[0].samples, before.shares[0].order) == (3, read_list(lists["keyed"], source).digest)
    before.write(tmp_path / "plans")
    assert read_plan(tmp_path / "plans", before.digest) == before
    Path(lists["keyed"]).write_text("key\n7\n2\n3\n1\n")
    after = planned()
    assert after.digest != before.digest
    message = (
        r"the list of `train` changed since the last checkpoint \(3 samples an epoch then, 4 now\): bring back the file"
    )
    with pytest.raises(UserError, match=message):
        after.follows(before, {"train"})
    after.follows(before, set())  # a source that begins anew
    after.follows(replace(before, shares=(replace(before.shares[0], name="other"),)), {"train"})


def test_a_stream_has_no_lists() -> None:
    with pytest.raises(ValueError, match=r"train\.photos\.list.*needs samples with ids: set `mode: index`"):
        DataConfig.model_validate({"train": {"photos": {"source": "a", "list": "l.csv"}}, "mode": "stream"})

"""Batches from clusters: one cluster a batch or all equally often, pure in the position, the same on any processes."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.columns import Column, write_column
from tercet.data_pipelines.composition import ClustersConfig
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.plans.clustered import AllClusters, OneCluster
from tercet.data_pipelines.plans.clusters import ClusterLabels, read_clusters
from tercet.data_pipelines.plans.sample_list import SampleList
from tercet.data_pipelines.plans.schedule import make_schedule
from tercet.data_pipelines.sample import Batch
from tercet.errors import UserError
from tests.data_pipelines.memory import INTAKES, Captions

COUNTS = [25, 0, 20, 15]
BALANCED = {"mix": "within_batches", "weights": "equal"}


def labels_of(sizes: Sequence[int], without: int = 0) -> ClusterLabels:
    """Clusters of these sizes, whose numbers are not in a row, and samples without one."""
    labels = np.concatenate([np.full(size, 3 * number) for number, size in enumerate(sizes)] + [np.full(without, -1)])
    return ClusterLabels("column", "digest", np.random.default_rng(0).permutation(labels))


def order_of(labels: ClusterLabels, per_batch: int, seed: int = 3, **options: Any) -> OneCluster | AllClusters:
    config = ClustersConfig(column="column", **options)
    kind = OneCluster if config.mix == "between_batches" else AllClusters
    return kind(config, labels, seed, per_batch, 4)


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 5), st.integers(1, 12), st.sampled_from(["merge", "drop"]), st.integers(0, 9))
def test_each_batch_comes_from_one_cluster_and_an_epoch_repeats_no_sample(
    sizes: list[int], without: int, per_batch: int, small: str, seed: int
) -> None:
    labels = labels_of(sizes, without)
    large = [size for size in sizes if size >= per_batch]
    rest = sum(size for size in sizes if size < per_batch)
    merged = [rest] if small == "merge" and rest >= per_batch else []
    if not large + merged:
        with pytest.raises(UserError, match=rf"the largest cluster has {max(sizes)} samples, but a batch takes"):
            order_of(labels, per_batch, seed, small=small)
        return
    order = order_of(labels, per_batch, seed, small=small)
    assert order.samples == sum(size // per_batch * per_batch for size in large + merged)
    is_large = {3 * number for number, size in enumerate(sizes) if size >= per_batch}
    seen: list[tuple[int, int]] = []
    for epoch in range(3):
        positions = np.arange(epoch * order.samples, (epoch + 1) * order.samples)
        ids = order.at(positions)
        assert len(set(ids.tolist())) == len(ids)
        batches = Counter()
        for batch in labels.label_N[ids].reshape(-1, per_batch):
            found = set(batch.tolist())
            assert len(found) == 1 if found & is_large else bool(merged)
            assert -1 not in found
            batches[min(found & is_large, default=-1)] += 1
        expected = {3 * i: size // per_batch for i, size in enumerate(sizes) if size >= per_batch}
        assert batches == expected | ({-1: rest // per_batch} if merged else {})
        assert {order.epoch(int(position)) for position in positions} == {epoch}
        seen += zip(ids.tolist(), order.appearance(positions).tolist(), strict=True)
    assert len(set(seen)) == len(seen)


def test_what_an_epoch_leaves_out_comes_in_another_one() -> None:
    order = order_of(labels_of([11, 9]), 4)
    drawn = Counter(order.at(np.arange(300 * order.samples)).tolist())
    assert order.samples == 16
    assert set(drawn) == set(range(20))
    assert min(drawn.values()) > 180, "300 epochs, of which each sample is in 8 of 11 or 8 of 9"


def test_clusters_of_equal_weight_have_equally_many_batches() -> None:
    labels = labels_of([40, 12, 4])
    order = order_of(labels, 4, weights="equal")
    assert order.samples == 3 * 5 * 4, "10, 3 and 1 full batches: 5 of each"
    ids = order.at(np.arange(2 * order.samples)).reshape(2, -1)
    for epoch in ids:
        assert Counter(labels.label_N[epoch.reshape(-1, 4)[:, 0]].tolist()) == {0: 5, 3: 5, 6: 5}
    small = Counter(ids[0][labels.label_N[ids[0]] == 6].tolist())
    assert list(small.values()) == [5] * 4
    pairs = set(zip(ids.ravel().tolist(), order.appearance(np.arange(2 * order.samples)).tolist(), strict=True))
    assert len(pairs) == ids.size


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(4, 40), min_size=2, max_size=6), st.integers(1, 16), st.integers(0, 9))
def test_mixed_batches_have_every_cluster_equally_often(sizes: list[int], per_batch: int, seed: int) -> None:
    """Clusters that cannot fill their share of a batch are left out, but for the largest, which always can."""
    labels = labels_of([*sizes, per_batch])
    order = order_of(labels, per_batch, seed, small="drop", **BALANCED)
    clusters = order.groups.size_C.tolist()
    positions = np.arange(len(clusters) * max(clusters) * 2)
    ids, appearances = order.at(positions), order.appearance(positions)
    rounds = labels.label_N[ids].reshape(-1, len(clusters))
    assert all(len(set(one)) == len(clusters) for one in rounds.tolist())
    assert len(set(zip(ids.tolist(), appearances.tolist(), strict=True))) == len(ids)
    for label in set(rounds[0].tolist()):
        own = ids[labels.label_N[ids] == label]
        size = int((labels.label_N == label).sum())
        for start in range(0, len(own) - size + 1, size):
            assert len(set(own[start : start + size].tolist())) == size, "each of its samples, before any comes again"
    assert len(clusters) == 1 or per_batch < 6 or len(set(map(tuple, rounds.tolist()))) > 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.sampled_from([{}, BALANCED]), st.lists(st.integers(0, 500), min_size=1))
def test_a_single_position_gives_the_same_sample(seed: int, options: dict[str, Any], positions: list[int]) -> None:
    order, fresh = (order_of(labels_of([20, 9, 4], 3), 4, seed, **options) for _ in range(2))
    for of in ("at", "appearance", "piece"):
        together = getattr(order, of)(np.array(positions))
        alone = [getattr(fresh, of)(np.array([position])).item() for position in reversed(positions)]
        assert together.tolist() == alone[::-1]


@pytest.mark.parametrize(("options", "text"), [
    ({}, "3 clusters of 5 to 20 samples; 2 small clusters with 5 samples became one of them, by size, by column"),
    ({"small": "drop"}, "2 clusters of 9 to 20 samples; 2 small clusters with 5 samples left out"),
    ({"small": "drop", "min_size": 10}, "1 cluster of 20 to 20 samples; 3 small clusters with 14 samples left out"),
    (BALANCED, "each batch has equally many samples of 4 clusters of 2 to 20 samples, by column (digest digest)"),
])  # fmt: skip
def test_small_clusters_are_counted(options: dict[str, Any], text: str) -> None:
    assert text in str(order_of(labels_of([20, 9, 3, 2]), 5, **options))


# --- the column, and a loader ----------------------------------------------------------------------------------------


def written(folder: Path, source: Captions, label: np.ndarray | None = None) -> str:
    label = np.arange(len(source)) % 3 if label is None else label
    write_column(folder, source.fingerprint, Column(np.arange(len(source)), {"label": label}))
    return str(folder)


def test_a_list_leaves_samples_out_of_their_clusters(tmp_path: Path) -> None:
    source = Captions("a", COUNTS)
    config = ClustersConfig(column=written(tmp_path / "c", source))
    times = np.where(np.arange(60) < 30, 1, 0).astype(np.uint8)
    listed = read_clusters(config, source, SampleList("l.csv", "d", times))
    assert listed.label_N.tolist() == [id % 3 if id < 30 else -1 for id in range(60)]
    assert str(listed).endswith("3 clusters of 10 to 10 samples, 30 samples in none")
    with pytest.raises(UserError, match=r"l\.csv lists samples several times an epoch, which `clusters` cannot do"):
        read_clusters(config, source, SampleList("l.csv", "d", 2 * times))


@pytest.mark.parametrize(("label", "name", "message"), [
    (np.zeros(60, dtype=int), "labels", r"has no values `labels`; did you mean `label`"),
    (np.zeros(60), "label", r"`label` must be one whole number for each sample"),
    (np.full(60, -1), "label", r"puts no sample into a cluster; labels must be 0 or more"),
])  # fmt: skip
def test_a_wrong_column_is_refused(tmp_path: Path, label: np.ndarray, name: str, message: str) -> None:
    source = Captions("a", COUNTS)
    with pytest.raises(UserError, match=message):
        read_clusters(ClustersConfig(column=written(tmp_path / "c", source, label), name=name), source)
    with pytest.raises(UserError, match=r"the column of clusters .* does not exist; write one with `tercet data clust"):
        read_clusters(ClustersConfig(column=str(tmp_path / "none")), source)


def data(folder: str, between: str, options: dict[str, Any]) -> DataConfig:
    train = {"mixed": {"source": "a", "clusters": {"column": folder, **options}, "weight": 3}, "all": "b"}
    return DataConfig.model_validate(
        {"train": train, "mix": between, "streams": 4, "window": 6, "workers": 0, "crop": None}
    )


def loader(config: DataConfig, **ranks: Any) -> Loader:
    return Loader(config, {"mixed": Captions("a", COUNTS), "all": Captions("b", [9, 11])}, INTAKES, 8, seed=5, **ranks)


def ids(batches: Sequence[Batch]) -> list[list[int]]:
    return [batch.ids.tolist() for batch in batches]


@pytest.mark.parametrize(("mix", "options"), [("between_batches", {}), ("within_batches", BALANCED)])
@pytest.mark.parametrize("world", [2, 4])
def test_batches_do_not_depend_on_the_number_of_ranks(
    tmp_path: Path, mix: str, options: dict[str, Any], world: int
) -> None:
    config = data(written(tmp_path / "c", Captions("a", COUNTS)), mix, options)
    batches = list(islice(loader(config), 16))
    ranks = [ids(list(islice(loader(config, rank=rank, world=world), 16))) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == ids(batches)
    for done in (1, 7, 15):
        again = loader(config, start=batches[done - 1].cursors)
        assert ids(list(islice(again, 16 - done))) == ids(batches[done:])
    own = [[id % 3 for id in batch if id < 60] for batch in ids(batches)]
    if mix == "between_batches":
        assert sorted({len(labels) for labels in own}) == [0, 8]
        assert all(len(set(labels)) == 1 for labels in own if labels)
    else:
        assert all(Counter(labels) == {0: 2, 1: 2, 2: 2} for labels in own)


def test_another_column_is_another_plan_and_cannot_be_resumed(tmp_path: Path) -> None:
    source, folder = Captions("a", COUNTS), tmp_path / "c"
    config = DataConfig.model_validate({"train": {"source": "a", "clusters": {"column": written(folder, source)}}})
    before = make_schedule(config, {"train": source}, 8, seed=0).plan
    assert before.samples == 48, "two batches of 8 from each of three clusters of 20"
    written(folder, source, np.arange(60) % 4)
    with pytest.raises(UserError, match=r"data\.train\.train\.clusters changed since the last checkpoint"):
        make_schedule(config, {"train": source}, 8, seed=0).plan.follows(before, {"train"})


@pytest.mark.parametrize(("changes", "message"), [
    ({"mode": "stream"}, r"`train\.mixed\.clusters` needs samples with ids: set `mode: index`"),
    ({"mix": "within_batches"}, r"takes each batch from one cluster, but batches mix sources; set data\.mix=between"),
])  # fmt: skip
def test_recipes_that_cannot_compose_batches_are_refused(changes: dict[str, Any], message: str) -> None:
    train = {"mixed": {"source": "a", "clusters": {"column": "c"}}, "all": "b"}
    with pytest.raises(ValueError, match=message):
        DataConfig.model_validate({"train": train, "mix": "between_batches"} | changes)


def test_balanced_mixed_batches_need_equal_weights() -> None:
    with pytest.raises(ValueError, match=r"`weights` is `proportional`, which mixed batches are without clusters"):
        ClustersConfig(column="c", mix="within_batches")

"""Batches of neighbours: against a naive loop, pure in the position, and the same on any number of processes."""

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
from tercet.data_pipelines.composition import NeighborsConfig
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.plans.graph import NeighborGraph, graph_summary, read_graph
from tercet.data_pipelines.plans.neighbors import Neighbors
from tercet.data_pipelines.plans.order import Order, Shuffled
from tercet.data_pipelines.plans.sample_list import SampleList
from tercet.data_pipelines.plans.schedule import make_schedule
from tercet.data_pipelines.sample import Batch
from tercet.errors import UserError
from tests.data_pipelines.memory import INTAKES, Captions

SAMPLES, WIDTH = 60, 6
COUNTS = [25, 0, 20, 15]


def graph_of(rows: Sequence[Sequence[int]]) -> NeighborGraph:
    width = max(map(len, rows))
    packed = np.array([[*row, *[-1] * (width - len(row))] for row in rows], dtype=np.int64)
    return NeighborGraph("graph", "digest", packed, np.array([len(row) for row in rows]))


def drawn_rows(samples: int, seed: int, width: int = WIDTH) -> list[list[int]]:
    """Some samples have fewer neighbours than others, and some none."""
    draw = np.random.default_rng(seed)
    others = [[other for other in draw.permutation(samples).tolist() if other != id] for id in range(samples)]
    return [row[: draw.integers(0, width + 1)] for row in others]


def order_of(rows: Sequence[Sequence[int]], per_batch: int, seed: int = 3, **options: Any) -> tuple[Neighbors, Order]:
    counts = np.array([len(rows) - len(rows) // 3, len(rows) // 3])
    seeds, others = Shuffled(counts, seed, 4, 6), Shuffled(counts, seed + 1, 4, 6)
    config = NeighborsConfig(graph="graph", **options)
    return Neighbors(config, graph_of(rows), seeds, others, seed, per_batch, 4), seeds


@pytest.mark.parametrize(("per_batch", "options"), [
    (8, {}), (9, {}), (10, {"share": 0.3}), (12, {"num_negatives": 3}), (13, {"num_negatives": 3, "share": 0.5}),
])  # fmt: skip
def test_the_best_neighbours_follow_their_seed_as_in_a_naive_loop(per_batch: int, options: dict[str, Any]) -> None:
    rows = [row or [(id + 1) % 30] for id, row in enumerate(drawn_rows(30, 1))]
    rows = [(row + [other for other in range(30) if other not in (id, *row)])[:3] for id, row in enumerate(rows)]
    order, seeds = order_of(rows, per_batch, sampling_strategy="top", **options)
    brought = options.get("num_negatives", 1)
    tuples = round(options["share"] * per_batch / brought) if "share" in options else per_batch // (1 + brought)
    expected: list[int] = []
    seed = iter(seeds.at(np.arange(500)).tolist())
    for _ in range(20):
        batch: list[int] = []
        for _ in range(tuples):
            batch.append(next(seed))
            batch += rows[batch[-1]][:brought]
        batch += [next(seed) for _ in range(per_batch - len(batch))]
        expected += batch
    assert order.at(np.arange(len(expected))).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(
    st.integers(12, 50), st.integers(0, 9), st.integers(4, 17), st.integers(1, 3), st.sampled_from(["random", "top"])
)
def test_an_epoch_has_each_sample_once_as_a_seed_beside_its_own_neighbours(
    samples: int, seed: int, per_batch: int, brought: int, strategy: str
) -> None:
    rows = drawn_rows(samples, seed)
    order, seeds = order_of(rows, per_batch, seed, num_negatives=brought, sampling_strategy=strategy)
    positions = np.arange(3 * order.samples)
    ids, appearances = order.at(positions), order.appearance(positions)
    in_tuples = per_batch // (1 + brought) * (1 + brought)
    places = positions % per_batch
    is_seed = (places >= in_tuples) | (places % (1 + brought) == 0)
    found = ids[is_seed]
    assert np.array_equal(found, seeds.at(np.arange(len(found))))
    assert sorted(ids[: order.samples][is_seed[: order.samples]].tolist()) == list(range(samples))
    epochs = [order.epoch(position) for position in positions.tolist()]
    assert epochs.index(1) == order.samples
    assert len(set(zip(ids.tolist(), appearances.tolist(), strict=True))) == len(ids), "no two draw the same crop"
    for start in np.flatnonzero(is_seed & (places < in_tuples)).tolist():
        members = ids[start : start + 1 + brought].tolist()
        if len(members) > brought:
            assert len(set(members)) == 1 + brought
            real = min(brought, len(rows[members[0]]))
            assert set(members[1 : 1 + real]) <= set(rows[members[0]])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.integers(4, 17), st.lists(st.integers(0, 500), min_size=1))
def test_a_single_position_gives_the_same_sample(seed: int, per_batch: int, positions: list[int]) -> None:
    (order, _), (fresh, _) = (order_of(drawn_rows(40, seed), per_batch, seed) for _ in range(2))
    for of in ("at", "appearance", "piece"):
        together = getattr(order, of)(np.array(positions))
        alone = [getattr(fresh, of)(np.array([position])).item() for position in reversed(positions)]
        assert together.tolist() == alone[::-1]


def test_neighbours_are_drawn_uniformly_and_anew_each_epoch() -> None:
    rows = [[(id + gap) % 64 for gap in range(1, 8)] for id in range(64)]
    order, _ = order_of(rows, 8)
    pairs = order.at(np.arange(order.samples * 40)).reshape(-1, 2)
    counts = np.bincount((pairs[:, 1] - pairs[:, 0]) % 64, minlength=8)
    assert counts[0] == 0
    assert counts.sum() == 64 * 40
    assert sum((count - 2560 / 7) ** 2 / (2560 / 7) for count in counts[1:]) < 35  # chi², 6 degrees: p < 1e-5
    drawn = {seed: set(pairs[pairs[:, 0] == seed, 1].tolist()) for seed in range(64)}
    assert {len(others) for others in drawn.values()} == {7}


def test_a_batch_without_place_for_neighbours_is_refused() -> None:
    with pytest.raises(UserError, match=r"a batch has 3 samples of this source, so none can bring neighbours"):
        order_of(drawn_rows(20, 0), 3, num_negatives=3)


@pytest.mark.parametrize(("options", "message"), [
    ({"share": 0.6}, r"`share` is 0.6, but samples that bring 1 each fill at most 0.5 of a batch"),
    ({"range_min": 3, "range_max": 3}, r"`range_max` is 3, so no rank is left from `range_min` on"),
])  # fmt: skip
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeighborsConfig(graph="graph", **options)


# --- the graph -------------------------------------------------------------------------------------------------------


def own_scores(draw: np.random.Generator) -> np.ndarray:
    """The scores of own pairs. One sample has none."""
    score_N = draw.uniform(-0.5, 1, SAMPLES)
    score_N[11] = np.nan
    return score_N


def written(folder: Path, source: Captions, seed: int = 0, **values: np.ndarray) -> str:
    draw = np.random.default_rng(seed)
    neighbors = np.array([draw.permutation([o for o in range(SAMPLES) if o != id])[:WIDTH] for id in range(SAMPLES)])
    neighbors[7] = -1
    scores = -np.sort(-draw.uniform(-1, 1, (SAMPLES, WIDTH)), axis=1).astype(np.float32)
    named = {"neighbors": neighbors, "scores": scores, "positive": own_scores(draw)} | values
    given_ = {name: value for name, value in named.items() if value is not None}
    write_column(folder, source.fingerprint, Column(np.arange(SAMPLES), given_))
    return str(folder)


@pytest.mark.parametrize("options", [
    {}, {"range_min": 2, "range_max": 5}, {"max_score": 0.5}, {"min_score": 0.0, "max_score": 0.8},
    {"absolute_margin": 0.1}, {"relative_margin": 0.2, "range_min": 1},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("with_list", [False, True])
def test_eligible_neighbours_equal_a_naive_filter(tmp_path: Path, options: dict[str, Any], with_list: bool) -> None:
    source = Captions("a", COUNTS)
    folder = written(tmp_path / "graph", source)
    times = np.where(np.arange(SAMPLES) % 3 == 0, 0, 1).astype(np.uint8)
    listed = SampleList("l.csv", "d", times) if with_list else None
    graph = read_graph(NeighborsConfig(graph=folder, **options), source, listed)
    draw = np.random.default_rng(0)
    neighbors = [draw.permutation([o for o in range(SAMPLES) if o != id])[:WIDTH].tolist() for id in range(SAMPLES)]
    scores = -np.sort(-draw.uniform(-1, 1, (SAMPLES, WIDTH)), axis=1).astype(np.float32)
    positive = own_scores(draw)
    for id in range(SAMPLES):
        expected = []
        for rank, (other, score) in enumerate(zip(neighbors[id], scores[id].tolist(), strict=True)):
            limits = [options.get("max_score", 2.0)]
            if "absolute_margin" in options and not np.isnan(positive[id]):
                limits.append(positive[id] - options["absolute_margin"])
            if "relative_margin" in options and not np.isnan(positive[id]):
                limits.append(positive[id] - options["relative_margin"] * abs(positive[id]))
            in_band = options.get("range_min", 0) <= rank < options.get("range_max", WIDTH)
            fits = options.get("min_score", -2.0) <= score <= min(limits)
            if id != 7 and in_band and fits and (not with_list or times[other]):
                expected.append(other)
        assert graph.neighbor_Nk[id, : graph.count_N[id]].tolist() == expected
        assert (graph.neighbor_Nk[id, graph.count_N[id] :] == -1).all()


@pytest.mark.parametrize(("values", "options", "message"), [
    ({"neighbors": np.full((SAMPLES, 2), SAMPLES)}, {}, r"names the id 60, but the ids of the source go from 0 to 59"),
    ({"neighbors": np.full((SAMPLES, 2), 3)}, {}, r"names a neighbour of the sample 0 twice"),
    ({"neighbors": np.zeros(SAMPLES, dtype=int)}, {}, r"`neighbors` must be whole numbers, one row for each sample"),
    ({"neighbors": np.full((SAMPLES, 2), -1)}, {}, r"has no eligible neighbour of any sample"),
    ({"neighbors": None, "other": np.zeros(SAMPLES)}, {}, r"has no `neighbors` or no `scores`: write it again"),
    ({"positive": None}, {"absolute_margin": 0.1}, r"has no scores of own pairs, which margins need: give the margin"),
    ({"scores": None}, {"max_score": 0.9}, r"has no `neighbors` or no `scores`"),
], ids=lambda value: "" if isinstance(value, dict) else value)  # fmt: skip
def test_a_wrong_graph_is_refused(tmp_path: Path, values: Any, options: Any, message: str) -> None:
    source = Captions("a", COUNTS)
    folder = written(tmp_path / "graph", source, **values)
    with pytest.raises(UserError, match=message):
        read_graph(NeighborsConfig(graph=folder, **options), source)


def test_a_graph_of_other_data_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "graph", Captions("a", COUNTS))
    assert graph_summary(folder) == f"{folder}: 60 samples, up to 6 neighbours each"
    with pytest.raises(UserError, match=r"has no values for the source with fingerprint b \[25, 0, 20, 15\]"):
        read_graph(NeighborsConfig(graph=folder), Captions("b", COUNTS))
    with pytest.raises(UserError, match=r"the neighbour graph .* does not exist; write one with `tercet data mine`"):
        read_graph(NeighborsConfig(graph=str(tmp_path / "none")), Captions("a", COUNTS))


# --- in a loader -----------------------------------------------------------------------------------------------------


def config(folder: str, **options: Any) -> DataConfig:
    workers = {name: options.pop(name) for name in ("workers", "worker") if name in options}
    train = {"near": {"source": "a", "neighbors": {"graph": folder, **options}, "weight": 3}, "all": "b"}
    return DataConfig.model_validate({"train": train, "streams": 4, "window": 6, "workers": 0, "crop": None, **workers})


def loader(folder: str, options: dict[str, Any] | None = None, **ranks: Any) -> Loader:
    sources = {"near": Captions("a", COUNTS), "all": Captions("b", [9, 11])}
    return Loader(config(folder, **options or {}), sources, INTAKES, 16, seed=5, **ranks)


def ids(batches: Sequence[Batch]) -> list[list[int]]:
    return [batch.ids.tolist() for batch in batches]


@pytest.mark.parametrize(("world", "options"), [
    (2, {}), (4, {"workers": 2, "worker": "thread"}), (8, {"share": 0.4}),
])  # fmt: skip
def test_batches_do_not_depend_on_the_numbers_of_ranks_and_workers(
    tmp_path: Path, world: int, options: dict[str, Any]
) -> None:
    folder = written(tmp_path / "graph", Captions("a", COUNTS))
    straight = ids(list(islice(loader(folder, options), 12)))
    ranks = [ids(list(islice(loader(folder, options, rank=rank, world=world), 12))) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == straight
    for done in (1, 5, 11):
        start = {"near": 12 * done, "all": 4 * done}
        assert ids(list(islice(loader(folder, options, start=start), 12 - done))) == straight[done:]


def test_each_batch_has_as_many_neighbours_as_its_share_says(tmp_path: Path) -> None:
    """12 of 16 samples come from the source with neighbours; half of them are seeds, each beside a neighbour."""
    source = Captions("a", COUNTS)
    folder = written(tmp_path / "graph", source)
    graph = read_graph(NeighborsConfig(graph=folder), source)
    seeds: list[int] = []
    expected = Shuffled(source.counts, 0, 4, 6)
    schedule = make_schedule(config(folder), {"near": source, "all": Captions("b", [9, 11])}, 16, 5)
    for batch in ids(list(islice(loader(folder), 10))):
        own = [id for id in batch if id < SAMPLES]
        assert len(own) == 12
        number = len(seeds) // 6
        ordered = schedule.orders["near"].at(np.arange(12 * number, 12 * number + 12)).reshape(6, 2)
        assert sorted(own) == sorted(ordered.ravel().tolist())
        for seed, other in ordered.tolist():
            assert other in graph.neighbor_Nk[seed] or seed == 7
        seeds += ordered[:, 0].tolist()
    assert sorted(seeds) == list(range(SAMPLES)) == sorted(expected.at(np.arange(SAMPLES)).tolist())


def test_a_changed_graph_is_another_plan_and_cannot_be_resumed(tmp_path: Path) -> None:
    source, folder = Captions("a", COUNTS), tmp_path / "graph"
    written(folder, source)
    data = DataConfig.model_validate({"train": {"source": "a", "neighbors": {"graph": str(folder)}}})

    def plan(data: DataConfig = data, batch_size: int = 8) -> Any:
        return make_schedule(data, {"train": source}, batch_size, seed=0).plan

    before = plan()
    assert before.samples == 120, "each of 60 samples brings a neighbour"
    plan().follows(before, {"train"})
    other = DataConfig.model_validate({"train": {"source": "a", "neighbors": {"graph": str(folder), "max_score": 0.9}}})
    written(tmp_path / "moved", source)
    moved = DataConfig.model_validate({"train": {"source": "a", "neighbors": {"graph": str(tmp_path / "moved")}}})
    plan(moved).follows(before, {"train"})
    message = r"data\.train\.train\.neighbors changed since the last checkpoint: the files, the options, or how many"
    for changed in (plan(other), plan(batch_size=10)):
        with pytest.raises(UserError, match=message):
            changed.follows(before, {"train"})
    written(folder, source, seed=1)
    with pytest.raises(UserError, match=message):
        plan().follows(before, {"train"})
    plan().follows(before, set())


@pytest.mark.parametrize(("changes", "message"), [
    ({"mode": "stream"}, r"`train\.near\.neighbors` needs samples with ids: set `mode: index`"),
    ({"clusters": {"column": "c"}}, r"`train\.near\.clusters` does not work together with `neighbors`"),
    ({"repeat": False}, r"`train\.near\.neighbors` needs as many samples of this source in every batch, but a source"),
])  # fmt: skip
def test_recipes_that_cannot_compose_batches_are_refused(changes: dict[str, Any], message: str) -> None:
    near = {"source": "a", "neighbors": {"graph": "g"}} | {k: v for k, v in changes.items() if k != "mode"}
    top = {"mode": changes["mode"]} if "mode" in changes else {}
    with pytest.raises(ValueError, match=message):
        DataConfig.model_validate({"train": {"near": near, "all": "b"}, **top})

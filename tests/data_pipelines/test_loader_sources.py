"""Several sources in one run: quotas, epochs, cursors and substitutes of each, counted one by one."""

import gc
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import psutil
import pytest

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sample import Batch
from tercet.data_pipelines.workers.in_order import in_order
from tercet.errors import UserError
from tests.data_pipelines.memory import INTAKES, Captions

Sources = Mapping[str, Captions]


def loader(sources: Sources, batch_size: int, start: Mapping[str, int] | None = None, **options: object) -> Loader:
    train = {name: {"source": name, **dict(options.pop(name, {}))} for name in sources}  # type: ignore[call-overload]
    ranks = {name: options.pop(name) for name in ("rank", "world", "folder") if name in options}
    data = DataConfig.model_validate({"train": train, "streams": 8, "window": 16, "workers": 0, **options})
    return Loader(data, sources, INTAKES, batch_size, seed=3, start=start, **ranks)  # type: ignore[arg-type]


def ids(batches: list[Batch]) -> list[int]:
    return [id for batch in batches for id in batch.ids.tolist()]


def test_each_batch_mixes_the_sources_by_weight() -> None:
    sources = {"a": Captions("a", [40, 60]), "b": Captions("b", [50])}
    mixed = loader(sources, 10, a={"weight": 3}, b={"weight": 2})
    batches = list(islice(mixed, 50))
    assert all(sum(id < 100 for id in batch.ids.tolist()) == 6 for batch in batches)
    assert batches[-1].cursors == {"a": 300, "b": 200}
    seen = Counter(ids(batches))
    assert all(seen[id] == 3 for id in range(100))  # three epochs of one, four of the other
    assert all(seen[id] == 4 for id in range(100, 150))


def test_the_order_of_a_source_does_not_depend_on_the_others() -> None:
    alone = ids(list(islice(loader({"a": Captions("a", [100])}, 6), 40)))
    mixed = {"a": Captions("a", [100]), "b": Captions("b", [50])}
    batches = islice(loader(mixed, 12, b={"weight": 1}), 40)
    among = [[id for id in batch.ids.tolist() if id < 100] for batch in batches]
    assert [sorted(batch) for batch in among] == [sorted(alone[i : i + 6]) for i in range(0, 240, 6)]


def test_sources_of_equal_sizes_have_different_orders() -> None:
    """Otherwise two samples with the same id would always share a batch."""
    batches = islice(loader({"a": Captions("a", [40, 60]), "b": Captions("b", [40, 60])}, 20), 10)
    met = 0
    for batch in batches:
        one, other = ({id % 100 for id in ids([batch]) if id // 100 == source} for source in (0, 1))
        assert len(one) == len(other) == 10
        met += len(one & other)
    assert met < 25  # of 100; by chance 10


def test_between_batches_each_batch_has_a_single_source() -> None:
    sources = {"a": Captions("a", [40, 60]), "b": Captions("b", [50])}
    batches = list(islice(loader(sources, 10, mix="between_batches", a={"weight": 3}), 100))
    turns = [{id < 100 for id in batch.ids.tolist()} for batch in batches]
    assert all(len(turn) == 1 for turn in turns)
    assert turns.count({True}) == 75
    assert batches[-1].cursors == {"a": 750, "b": 250}


def test_a_source_that_does_not_repeat_is_seen_once() -> None:
    sources = {"once": Captions("once", [30]), "b": Captions("b", [50])}
    seen = Counter(ids(list(islice(loader(sources, 8, once={"repeat": False}), 20))))
    assert all(seen[id] == 1 for id in range(30))
    assert sum(seen.values()) == 160


@pytest.mark.parametrize("workers", [0, 2])
def test_the_last_full_batch_is_not_lost(workers: int) -> None:
    """Also if a thread fetches batches ahead, as the one that pins memory does."""
    sources = {"once": Captions("once", [30])}
    once = iter(loader(sources, 8, once={"repeat": False}, worker="thread", workers=workers))
    with ThreadPoolExecutor(1) as pool:
        batches = list(in_order(lambda batch: batch, once, pool, ahead=1))
    assert len(set(ids(batches))) == 24


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("mix", ["within_batches", "between_batches"])
def test_mixtures_are_the_same_on_any_number_of_ranks_and_after_resuming(world: int, mix: str) -> None:
    sources = {"a": Captions("a", [33, 4, 0, 25]), "b": Captions("b", [50], every_bad=9)}
    options = {"mix": mix, "max_bad": 1.0, "a": {"weight": 2.5}}
    whole = list(islice(loader(sources, 12, **options), 30))
    ranks = [
        list(islice(loader(sources, 12, whole[11].cursors, rank=rank, world=world, **options), 18))
        for rank in range(world)
    ]
    together = [ids(list(parts)) for parts in zip(*ranks, strict=True)]
    assert together == [batch.ids.tolist() for batch in whole[12:]]


@pytest.mark.parametrize("counts", [[5, 3, 9], [17], [1, 1, 1]])
def test_fewer_shards_than_workers(counts: list[int]) -> None:
    """Four ranks with two workers each: every rank has the same number of steps, and an epoch has every sample once."""
    sources = {"a": Captions("a", counts)}
    total = sum(counts)
    ranks = [
        list(islice(loader(sources, 4, rank=rank, world=4, workers=2, worker="thread"), 3 * total)) for rank in range(4)
    ]
    seen = Counter(id for rank in ranks for id in ids(rank))
    assert seen == Counter(dict.fromkeys(range(total), 12))


def test_thirty_percent_of_bad_samples_cost_no_more_reads_than_their_share() -> None:
    """Counts reads: one for each sample, and one for each bad sample before it."""
    good, bad = Captions("good", [1000] * 4), Captions("bad", [1000] * 4, every_bad=3)
    for source in (good, bad):
        list(islice(loader({"a": source}, 100, max_bad=1.0), 80))
    read_ahead = good.reads - 8000
    assert bad.reads - read_ahead == pytest.approx(8000 * 3 / 2, rel=0.04)


def test_substitutes_come_from_the_same_shard(tmp_path: Path) -> None:
    source = Captions("a", [50] * 8, every_bad=5)
    halves = [loader({"a": source}, 16, max_bad=1.0, rank=rank, world=2, folder=tmp_path) for rank in (0, 1)]
    shards = [{source.shard(id) for id in ids(list(islice(half, 50)))} for half in halves]
    assert [len(own) for own in shards] == [4, 4]
    assert len(set.union(*shards)) == 8
    lines = (tmp_path / "bad_samples.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 80


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_memory_does_not_grow_over_ten_epochs(kind: str) -> None:
    stream = iter(loader({"a": Captions("a", [500] * 4)}, 100, workers=2, worker=kind))
    sizes = []
    for _ in range(11):
        for batch in islice(stream, 20):
            assert len(batch) == 100
        del batch
        gc.collect()
        own = psutil.Process()
        sizes.append(sum(process.memory_info().rss for process in (own, *own.children(recursive=True))))
    stream.close()  # type: ignore[attr-defined]
    assert sizes[-1] - sizes[1] < 8 * 2**20


def test_without_memfd_the_error_suggests_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    sources = {"a": Captions("a", [20])}
    with pytest.raises(UserError, match=r"Set data\.worker=thread"):
        next(iter(loader(sources, 4, workers=1, worker="process")))
    assert len(next(iter(loader(sources, 4, workers=1, worker="thread")))) == 4

"""Writes new shards with the samples that a decision keeps, in their order. Most runs need only the list.

The shards are those of `tercet data pack`: the same manifest and index, and the same command resumes after a kill.
"""

from collections.abc import Container, Iterable, Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.manifests.entry import LeftOut
from tercet.data_pipelines.pack.journal import Journal, Packed
from tercet.data_pipelines.pack.place import alone
from tercet.data_pipelines.pack.plan import PackPlan
from tercet.data_pipelines.pack.result import PARTIAL, begin, clear, finish
from tercet.data_pipelines.pack.shard import Made, chunks, write_packed
from tercet.data_pipelines.progress import with_progress
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.spawned import AHEAD, CONTINUE, spawned
from tercet.errors import UserError
from tercet.modality import EXTENSIONS

CHUNK = 64  # samples that a worker reads at once


def write_shards(
    decision: ScoreGroup, name: str, source: Source, out: Path, samples: int = 10_000, workers: int = 1
) -> dict[str, Any]:
    """Writes the samples of the source `name` that the decision keeps, `samples` in a shard. Returns its manifest."""
    kept = sum(len(ids) for ids in _kept(decision, name))
    described = {"path": str(decision.folder), "rows": kept, "digest": source.snapshot, "rules": decision.facts}
    plan = PackPlan({**described, "passed_over": {}}, {"shard_samples": samples}, tuple(range(0, kept, samples)))
    with alone(out):
        if not begin(out, plan):
            journal = Journal(out / PARTIAL)
            ids = (id for some in _kept(decision, name) for id in some)
            made = _written(plan, ids, journal.packed.keys(), source, out, workers)
            for packed in with_progress(made, "writing shards", len(plan.starts) - len(journal.packed)):
                journal.append(packed)
            finish(out, plan, journal)
        return clear(out)


def _kept(decision: ScoreGroup, name: str) -> Iterator[list[int]]:
    """Refuses samples that come several times, because two samples of a shard cannot have one key."""
    for batch in decision.batches(name, ["keep", "count"]):
        rows = zip(*(batch[column].to_pylist() for column in ("id", "keep", "count")), strict=True)
        kept = [(id, count) for id, keep, count in rows if keep]
        if any(count != 1 for _, count in kept):
            raise UserError(
                f"{decision.folder} keeps samples several times, which shards cannot hold; leave out --shards, and "
                f"train with data.train.NAME.list={decision.folder}"
            )
        yield [id for id, _ in kept]


def _written(
    plan: PackPlan, ids: Iterable[int], done: Container[int], source: Source, out: Path, workers: int
) -> Iterator[Packed]:
    """Each shard that is not done, written while its samples come from the workers."""
    with spawned(workers, "reads samples", CONTINUE) as pool:
        read = in_order(partial(_read, source), chunks(plan, ids, done, CHUNK), pool, AHEAD * workers)
        for shard, group in groupby(read, key=itemgetter(0)):
            yield write_packed(plan, shard, out, (one for _, found in group for one in found))


def _read(source: Source, chunk: tuple[int, list[int]]) -> tuple[int, list[Made]]:
    shard, ids = chunk
    found = zip(ids, source.read(ids, EXTENSIONS), strict=True)
    return shard, [_sample(source, id, files) for id, files in found]


def _sample(source: Source, id: int, files: Any) -> Made:
    if isinstance(files, BadSample):
        return LeftOut(id, source.shard(id), str(files))
    return {"__key__": source.key(id), **files}

"""Writes new shards with the samples that a decision keeps, in their order. Most runs need only the list.

The shards are those of `tercet data pack`: the same manifest and index, and the same command resumes after a kill.
"""

from collections.abc import Container, Iterable, Iterator
from functools import partial
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.manifests.entry import LeftOut
from tercet.data_pipelines.pack.journal import Journal, Packed, seal
from tercet.data_pipelines.pack.place import alone
from tercet.data_pipelines.pack.plan import PackPlan
from tercet.data_pipelines.pack.result import PARTIAL, begin, clear, finish
from tercet.data_pipelines.progress import with_progress
from tercet.data_pipelines.shards.write import SampleFiles, write_shard
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.spawned import AHEAD, spawned
from tercet.errors import UserError
from tercet.modality import EXTENSIONS

CHUNK = 64  # samples that a worker reads at once
FIX = "run the same command again with fewer --workers; it continues where this one stopped"

Chunk = tuple[int, list[int]]  # a shard, and ids of samples in it
Made: TypeAlias = SampleFiles | LeftOut


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
            made = _written(plan, _chunks(decision, name, plan, journal.packed.keys()), source, out, workers)
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


def _chunks(decision: ScoreGroup, name: str, plan: PackPlan, done: Container[int]) -> Iterator[Chunk]:
    """The ids of the shards to be written; a chunk never lies in two of them."""
    ids = (id for some in _kept(decision, name) for id in some)
    placed = ((plan.shard(position), id) for position, id in enumerate(ids))
    for shard, group in groupby(placed, key=itemgetter(0)):
        if shard not in done:
            while chunk := [id for _, id in islice(group, CHUNK)]:
                yield shard, chunk


def _written(plan: PackPlan, chunks: Iterable[Chunk], source: Source, out: Path, workers: int) -> Iterator[Packed]:
    """Each shard, written while its samples come from the workers."""
    with spawned(workers, "reads samples", FIX) as pool:
        read = in_order(partial(_read, source), chunks, pool, AHEAD * workers)
        for shard, group in groupby(read, key=itemgetter(0)):
            name, left_out = f"{shard:06d}.tar", list[LeftOut]()
            whole = _usable((one for _, found in group for one in found), left_out)
            first = next(whole, None)
            if first is None:
                yield Packed(shard, name, 0, 0, "", tuple(left_out))
            else:
                write_shard(out / name, chain([first], whole))
                count = plan.count(shard) - len(left_out)
                yield Packed(shard, name, count, *seal(out / name), tuple(left_out))


def _usable(found: Iterable[Made], left_out: list[LeftOut]) -> Iterator[SampleFiles]:
    for one in found:
        if isinstance(one, LeftOut):
            left_out.append(one)
        else:
            yield one


def _read(source: Source, chunk: Chunk) -> tuple[int, list[Made]]:
    shard, ids = chunk
    found = zip(ids, source.read(ids, EXTENSIONS), strict=True)
    return shard, [_sample(source, id, files) for id, files in found]


def _sample(source: Source, id: int, files: Any) -> Made:
    if isinstance(files, BadSample):
        return LeftOut(id, source.shard(id), str(files))
    return {"__key__": source.key(id), **files}

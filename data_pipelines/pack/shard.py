"""The new shards of a plan: which samples go into each, and how one is written."""

from collections.abc import Container, Iterable, Iterator
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias, TypeVar

from tercet.data_pipelines.manifests.entry import LeftOut
from tercet.data_pipelines.pack.journal import Packed, seal
from tercet.data_pipelines.pack.plan import PackPlan
from tercet.data_pipelines.shards.write import SampleFiles, write_shard

Made: TypeAlias = SampleFiles | LeftOut
Row = TypeVar("Row")


def chunks(plan: PackPlan, rows: Iterable[Row], done: Container[int], size: int) -> Iterator[tuple[int, list[Row]]]:
    """The rows of the shards that are not done yet, each chunk with its shard."""
    placed = ((plan.shard(position), row) for position, row in enumerate(rows))
    for shard, group in groupby(placed, key=itemgetter(0)):
        if shard not in done:
            while chunk := [row for _, row in islice(group, size)]:
                yield shard, chunk


def write_packed(plan: PackPlan, shard: int, out: Path, rows: Iterable[Made]) -> Packed:
    """A shard whose rows were all left out is not written."""
    name, left_out = f"{shard:06d}.tar", list[LeftOut]()
    kept = _kept(rows, left_out)
    first = next(kept, None)
    if first is None:
        return Packed(shard, name, 0, 0, "", tuple(left_out))
    write_shard(out / name, chain([first], kept))
    return Packed(shard, name, plan.count(shard) - len(left_out), *seal(out / name), tuple(left_out))


def _kept(rows: Iterable[Made], left_out: list[LeftOut]) -> Iterator[SampleFiles]:
    for row in rows:
        if isinstance(row, LeftOut):
            left_out.append(row)
        else:
            yield row

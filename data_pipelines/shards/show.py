"""Prints what indexing found, a dataset on each row, or gives it as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from tercet.data_pipelines.shards.build import Indexed
from tercet.data_pipelines.shards.record import Record, load_census
from tercet.data_pipelines.shards.tar import DamagedShard
from tercet.modality import how_to_convert


@dataclass(frozen=True)
class Inventory:
    """The content of all shards of a dataset."""

    data: str
    shards: int
    samples: int
    bytes: int
    files: Mapping[str, int]
    passed_over: Mapping[str, int]
    repeated: int
    incomplete: int
    damaged: Mapping[str, str]  # what is wrong, by shard


def inventory(data: str, indexed: Sequence[Indexed]) -> Inventory:
    censuses = [load_census(each) for each in indexed if isinstance(each, Record)]
    files: Counter[str] = Counter()
    passed_over: Counter[str] = Counter()
    for census in censuses:
        files.update(census.files)
        passed_over.update(census.passed_over)
    return Inventory(
        data=data,
        shards=len(indexed),
        samples=sum(each.samples for each in indexed if isinstance(each, Record)),
        bytes=sum(census.bytes for census in censuses),
        files=dict(files.most_common()),
        passed_over=dict(passed_over.most_common()),
        repeated=sum(census.repeated for census in censuses),
        incomplete=sum(census.incomplete for census in censuses),
        damaged={each.shard: each.what for each in indexed if isinstance(each, DamagedShard)},
    )


def to_json(inventories: Sequence[Inventory]) -> list[dict[str, object]]:
    return [asdict(each) for each in inventories]


def print_inventories(inventories: Sequence[Inventory]) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("data", style="bold cyan", overflow="fold")
    for column in ("shards", "samples", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("files", overflow="fold")
    for each in inventories:
        table.add_row(each.data, f"{each.shards:,}", f"{each.samples:,}", decimal(each.bytes), _listed(each.files))
    console.print(table)
    for line in (line for each in inventories for line in _remarks(each)):
        console.print(line, soft_wrap=True, markup=False)
    for shard, what in (item for each in inventories for item in each.damaged.items()):
        console.print(f"damaged: {shard}: {what}", style="bold red", soft_wrap=True, markup=False)


def _remarks(found: Inventory) -> list[str]:
    remarks = {
        f"files that are never read: {_listed(found.passed_over)}": found.passed_over,
        f"samples whose key occurs more than once in their shard: {found.repeated:,}": found.repeated,
        f"samples that lack a kind of file which most of their shard have: {found.incomplete:,}": found.incomplete,
    }
    lines = [remark for remark, worth_saying in remarks.items() if worth_saying]
    return [f"{found.data}: {line}" for line in [*lines, *how_to_convert(found.passed_over)]]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())

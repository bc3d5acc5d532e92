"""Computes the parts of a group over worker processes, in small pieces that a kill cannot undo.

Processes of a launcher share the pieces: of those that are missing, each takes every W-th. Then they join the pieces of
each part.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.score_group import ID, KEY, Columns, ScoreGroup
from tercet.data_pipelines.survey.walk import SAMPLES, parts_of, walk
from tercet.system import cores

if TYPE_CHECKING:
    from tercet.distributed import World

Rows = Sequence[Mapping[str, object]]
Work = Callable[[Sequence[int]], Any]


def write_parts(group: ScoreGroup, source: str, work: Work, workers: int, doing: str, world: "World") -> None:
    """Writes the missing parts. `work` makes the table of some ids, 256 of them at a time. A collective."""
    pieces = world.broadcast(group.missing_pieces(source))[world.rank :: world.size]
    tables = iter(walk(work, [ids for piece in pieces for ids in parts_of(piece)], workers, doing))
    for piece in pieces:
        chunks = list(islice(tables, -(-len(piece) // SAMPLES)))
        group.write_piece(source, piece, arrow().concat_tables(chunks))
    world.wait_for_all()
    for part in world.broadcast(group.missing(source))[world.rank :: world.size]:
        group.join_pieces(source, part)
    world.wait_for_all()


def table_of(columns: Columns, rows: Rows) -> Any:
    """Rows with `id` and `key`; what a row lacks is null."""
    pa = arrow()
    types = {ID: "int64", KEY: "string", **{name: column.type for name, column in columns.items()}}
    return pa.Table.from_pylist(
        list(rows), pa.schema([(name, pa.type_for_alias(type)) for name, type in types.items()])
    )


def usual_workers() -> int:
    """The cores of this machine, shared among the processes that a launcher started on it."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))

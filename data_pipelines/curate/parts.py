"""Computes the parts of a group over worker processes, and writes each as soon as it has all of its rows.

Processes of a launcher share the parts: of those that are missing, each takes every W-th.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from tercet.data_pipelines.curate.engines import arrow
from tercet.data_pipelines.curate.score_group import ID, KEY, Columns, ScoreGroup
from tercet.data_pipelines.survey.walk import SAMPLES, parts_of, walk
from tercet.system import cores

Rows = Sequence[Mapping[str, object]]
Work = Callable[[Sequence[int]], Any]


def write_parts(
    group: ScoreGroup,
    source: str,
    parts: Sequence[range],
    work: Callable[[Sequence[int]], Any],
    workers: int,
    doing: str,
) -> None:
    """`work` makes the table of some ids. It runs on 256 of them at a time, so memory holds a part at most."""
    tables = iter(walk(work, [ids for part in parts for ids in parts_of(part)], workers, doing))
    for part in parts:
        pieces = list(islice(tables, -(-len(part) // SAMPLES)))
        group.write(source, part, arrow().concat_tables(pieces))


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

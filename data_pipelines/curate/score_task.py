"""The group of scores that is computed for a source, and the steps that all groups share.

Ranks share the work: each takes every W-th of the parts that are missing, and parts that exist are not computed again.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.curate.parts import table_of
from tercet.data_pipelines.curate.score_group import Columns, Request, ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.data_pipelines.source import Source
from tercet.distributed import World

Values = Mapping[str, Sequence[object] | NDArray[np.float32]]


@dataclass(frozen=True)
class ScoreTask:
    """`name`: that of the source in the table. `group`: the name of the group to write."""

    table: ScoreTable
    name: str
    group: str
    source: Source
    world: World

    def begin(self, request: Request, columns: Columns) -> ScoreGroup:
        return self.table.begin_group(self.group, request, columns)

    def begin_draft(self, request: Request, columns: Columns) -> ScoreGroup:
        """A hidden group of values that the scores are computed from."""
        return self.table.begin_group(f".{self.group}", request, columns)

    def missing(self, group: ScoreGroup) -> list[range]:
        """The ids of all parts that do not exist yet, the same on all ranks. A collective."""
        return self.world.broadcast(group.missing(self.name))

    def mine(self, group: ScoreGroup) -> list[range]:
        """This rank's parts of those that are missing. A collective."""
        return self.missing(group)[self.world.rank :: self.world.size]

    def finish(self, group: ScoreGroup, draft: ScoreGroup | None = None) -> ScoreGroup:
        """Removes the draft, and what killed processes have left. A collective."""
        self.world.wait_for_all()
        if self.world.first:
            group.finish()
            if draft is not None:
                shutil.rmtree(draft.folder, ignore_errors=True)
        self.world.barrier()
        return group

    def write(self, group: ScoreGroup, ids: range, columns: Columns, found: Sequence[tuple[list[int], Values]]) -> None:
        """Writes a part. Each of `found` has values of some samples of the part; no row without any."""
        rows: dict[int, dict[str, object]] = {}
        for id_n, values in found:
            for at, id in enumerate(id_n):
                row = rows.setdefault(id, {"id": id, "key": self.source.key(id)})
                row.update({name: value_n[at] for name, value_n in values.items()})
        group.write(self.name, ids, table_of(columns, [rows[id] for id in sorted(rows)]))

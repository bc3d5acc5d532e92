"""Score tables of a few rows, made with pyarrow as another engine would make them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tercet.data_pipelines.curate.database import Engine, Scores
from tercet.data_pipelines.curate.decision import Decision
from tercet.data_pipelines.curate.rules.stages import stages_in
from tercet.data_pipelines.curate.score_table import ScoreTable, TableSource
from tercet.data_pipelines.curate.select import select
from tercet.data_pipelines.curate.selected import Selected

Columns = Mapping[str, Sequence[object]]


def scored(folder: Path, groups: Mapping[str, Columns], source: str = "data", samples: int | None = None) -> ScoreTable:
    """One source whose rows have the ids 0, 1, … unless a group says otherwise. Adds to a table that exists."""
    count = samples or max(len(column) for columns in groups.values() for column in columns.values())
    table = ScoreTable.begin(folder, TableSource(source, f"{source} {count}", "", count, (source,)))
    for name, columns in groups.items():
        rows = len(next(iter(columns.values())))
        place = folder / name / source
        place.mkdir(parents=True, exist_ok=True)
        ids = {"id": list(range(rows)), **columns}
        pq.write_table(pa.table({**ids, "key": [f"{source}{id}" for id in ids["id"]]}), place / "rows.parquet")
    return table


def chosen(table: ScoreTable, rules: Any, name: str = "chosen", **options: Any) -> Selected:
    return select(table, name, stages_in(rules, "rules.yaml"), **options)


def decision(table: ScoreTable, name: str = "chosen", source: str = "data") -> dict[str, list[Any]]:
    """The columns of a decision, in the order of ids."""
    found: dict[str, list[Any]] = pq.read_table(table.folder / name / source).sort_by("id").to_pydict()
    return found


def kept(table: ScoreTable, rules: Any, name: str = "chosen", **options: Any) -> list[int]:
    chosen(table, rules, name, **options)
    found = decision(table, name)
    return [id for id, keep in zip(found["id"], found["keep"], strict=True) if keep]


def undecided(table: ScoreTable, name: str, folder: Path) -> Decision:
    """A decision that is not written yet, for tests of its parts."""
    scores = Scores(table, without=name)
    group = table.begin_group(name, {}, {})
    return Decision(scores, group, folder, Engine(folder / "scratch"), 1)

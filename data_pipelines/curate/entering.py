"""The samples that enter a rule, with the values that the rule needs, as a query or in parts over processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tercet.data_pipelines.curate.database import Engine, Part, Scores, quoted, said
from tercet.data_pipelines.curate.engines import arrow, duckdb
from tercet.data_pipelines.curate.score_group import PART
from tercet.data_pipelines.progress import with_progress
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.spawned import AHEAD, CONTINUE, spawned
from tercet.errors import UserError
from tercet.whole_file import whole_file

Table = Any  # of pyarrow
Queries = Mapping[str, str]
NONE: Queries = {}
PartWork = Callable[[Table], Table]  # gets `source`, `id` and the selected columns; returns at least `source` and `id`


@dataclass(frozen=True)
class Entering:
    """`rows`: a Parquet file of their sources and ids; without it, all samples of the table.

    `folder`: where a rule keeps what it has computed, until the selection is complete. `place`: the rule, for errors.
    """

    scores: Scores
    rows: Path | None
    count: int
    folder: Path
    place: str
    engine: Engine
    workers: int = 1

    def select(self, columns: Mapping[str, str], part: Part | None = None, further: Queries = NONE) -> str:
        """A query for `source`, `id` and expressions by name. `further`: queries of more columns, by group."""
        used = self.scores.used(columns.values(), self.place, further)
        groups = {name: self.scores.relation(name, part) for name in used}
        wanted = ", ".join(f"{text} AS {name}" for name, text in columns.items())
        joined = "".join(
            f' LEFT JOIN ({rows}) AS "{name}" ON "{name}".source = sample.source AND "{name}".id = sample.id'
            for name, rows in {**groups, **further}.items()
        )
        return (
            f"SELECT sample.source AS source, sample.id AS id, {wanted} FROM ({self._samples(part)}) AS sample{joined}"
        )

    def _samples(self, part: Part | None) -> str:
        rows = f"SELECT * FROM read_parquet({quoted(self.rows)})" if self.rows else self.scores.samples()
        if part is None:
            return rows
        inside = f"source = {quoted(part.source)} AND id BETWEEN {part.first} AND {part.first + PART - 1}"
        return f"SELECT * FROM ({rows}) WHERE {inside}"

    def query(self, sql: str) -> Table:
        with self.engine.connected() as connection:
            return _run(connection, sql, self.place)

    def write(self, sql: str, path: Path) -> None:
        """Writes the rows of a query in the order of sources and ids."""
        with self.engine.connected() as connection, whole_file(path) as draft:
            rows = f"SELECT * FROM ({sql}) ORDER BY source, id"
            options = f"FORMAT parquet, ROW_GROUP_SIZE {PART}"
            _run(connection, f"COPY ({rows}) TO {quoted(draft)} ({options})", self.place)

    def over_parts(
        self, columns: Mapping[str, str], work: PartWork, name: str, purpose: str, further: Queries = NONE
    ) -> str:
        """Runs `work` on every part, in processes. Returns a query of all results. Parts that exist are kept."""
        folder = self.folder / name
        parts = [(part, folder / f"{part.source}-{part.first:012d}.parquet") for part in self.scores.parts()]
        todo = [(self.select(columns, part, further), file) for part, file in parts if not file.is_file()]
        call = partial(_work_on, work, self.engine, self.place)
        with spawned(self.workers, purpose, CONTINUE) as pool:
            made = in_order(call, todo, pool, AHEAD * self.workers)
            for _ in with_progress(made, f"{self.place}: {purpose}", len(todo)):
                pass
        return f"SELECT * FROM read_parquet({quoted(folder / '*.parquet')})"

    def results(self, name: str) -> list[Path]:
        """The files of an earlier `over_parts`."""
        return sorted((self.folder / name).glob("*.parquet"))


def _work_on(work: PartWork, engine: Engine, place: str, task: tuple[str, Path]) -> None:
    sql, file = task
    with Engine(engine.scratch, engine.memory, threads=1).connected() as connection:
        table = _run(connection, f"SELECT * FROM ({sql}) ORDER BY id", place)
    with whole_file(file) as draft:
        arrow().parquet.write_table(work(table), draft)


def _run(connection: Any, sql: str, place: str) -> Table:
    try:
        if sql.startswith("COPY"):
            connection.execute(sql)
            return None
        return connection.sql(sql).to_arrow_table()
    except duckdb().Error as error:
        raise UserError(f"{place}: {said(error)}") from None

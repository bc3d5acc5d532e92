"""DuckDB over a score table: in an expression, `GROUP.column` is the value of a sample. Works out of core.

`source` and `id` name the sample. A sample without a row in a group has nulls there. NaN counts as null: DuckDB takes
NaN for larger than every number, so that a broken score would pass each threshold.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tercet.data_pipelines.curate.chance import gumbel_of_rows
from tercet.data_pipelines.curate.engines import duckdb
from tercet.data_pipelines.curate.score_group import KEY, PART, ScoreGroup
from tercet.data_pipelines.curate.score_table import ScoreTable
from tercet.errors import UserError, did_you_mean

FLOATS = ("halffloat", "float", "double")
OF_SAMPLE = ("source", "id")


class Part(NamedTuple):
    """The ids of a source from `first` on that share a file."""

    source: str
    first: int


@dataclass(frozen=True)
class Engine:
    """How DuckDB may use the machine. What does not fit into `memory` goes to files in `scratch`."""

    scratch: Path
    memory: str = "4GB"
    threads: int | None = None

    @contextmanager
    def connected(self) -> Iterator[Any]:
        self.scratch.mkdir(parents=True, exist_ok=True)
        settings = {"temp_directory": str(self.scratch), "memory_limit": self.memory}
        settings |= {"threads": str(self.threads)} if self.threads else {}
        try:
            connection = duckdb().connect(config=settings)
        except duckdb().Error as error:
            raise UserError(f"memory: `{self.memory}` is not a size; give one such as 4GB ({said(error)})") from None
        with closing(connection):
            types = ["VARCHAR", "BIGINT", "BIGINT"]
            connection.create_function("gumbel", gumbel_of_rows, types, "DOUBLE", type="arrow")
            yield connection


def said(error: Exception) -> str:
    """What DuckDB says of a mistake, in one line."""
    return " ".join(str(error).split("\nLINE", 1)[0].split())


def quoted(text: str | Path) -> str:
    """As a string of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def columns_in(expression: str, where: str) -> list[tuple[str, ...]]:
    """The columns that an expression names, as DuckDB's own parser reads it."""
    with closing(duckdb().connect()) as connection:
        (text,) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [f"SELECT ({expression})"]).fetchone()
    parsed = json.loads(text)
    if parsed["error"]:
        raise UserError(f"{where}: not an expression of SQL ({parsed['error_message']})")
    return list(dict.fromkeys(_references(parsed)))


def _references(tree: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(tree, dict):
        if tree.get("class") == "COLUMN_REF":
            yield tuple(tree["column_names"])
        tree = list(tree.values())
    if isinstance(tree, list):
        for one in tree:
            yield from _references(one)


class Scores:
    """The groups of a table as relations of SQL. `without`: a group that is being written."""

    def __init__(self, table: ScoreTable, without: str = "") -> None:
        self.table = table
        self.groups = {name: table.group(name) for name in table.groups if name != without}

    def samples(self) -> str:
        """All samples of all sources."""
        counts = {name: source.samples for name, source in self.table.sources.items()}
        return " UNION ALL ".join(
            f"SELECT {quoted(name)} AS source, range AS id FROM range({count})" for name, count in counts.items()
        )

    def parts(self) -> Iterator[Part]:
        for name, source in self.table.sources.items():
            yield from (Part(name, first) for first in range(0, source.samples, PART))

    def used(self, expressions: Collection[str], where: str, further: Collection[str] = ()) -> list[str]:
        """The groups whose columns the expressions name. Refuses unknown ones, except those of `further`."""
        found = dict[str, None]()
        for reference in (one for expression in expressions for one in columns_in(expression, where)):
            if (len(reference) == 1 and reference[0] in OF_SAMPLE) or reference[0] in further:
                continue
            known = {KEY, *self.columns(reference[0])} if reference[0] in self.groups else ()
            if len(reference) < 2 or reference[1] not in known:
                name, every = (
                    ".".join(reference),
                    [f"{one}.{column}" for one in self.groups for column in self.columns(one)],
                )
                raise UserError(
                    f"{where}: `{name}` is not a column of {self.table.folder}; {did_you_mean(name, every)}"
                )
            found[reference[0]] = None
        return list(found)

    def columns(self, group: str) -> Mapping[str, str]:
        """The columns that any source has, with their types as pyarrow names them."""
        found = self.groups[group]
        return {name: kind for source in found.sources for name, kind in found.columns(source).items()}

    def keyed(self) -> list[str]:
        """Groups whose rows have keys. Those that tercet wrote always do."""
        return [name for name, group in self.groups.items() if group.facts]

    def relation(self, group: str, part: Part | None = None) -> str:
        """The rows of a group; for a part, at least its rows."""
        found = self.groups[group]
        sources = [name for name in found.sources if part is None or name == part.source]
        if not sources:
            return f"SELECT * FROM ({self.relation(group)}) LIMIT 0"
        return " UNION ALL BY NAME ".join(_rows(found, source, part) for source in sources)


def _rows(group: ScoreGroup, source: str, part: Part | None) -> str:
    floats = [name for name, kind in group.columns(source).items() if kind in FLOATS]
    clean = ", ".join(f'CASE WHEN isnan("{name}") THEN NULL ELSE "{name}" END AS "{name}"' for name in floats)
    place = group.folder / source / f"{part.first if part else 0:012d}.parquet"
    own = part is not None and group.facts and place.is_file()  # others may divide the rows in other ways
    files = quoted(place if own else group.glob(source))
    return (
        f"SELECT {quoted(source)} AS source, * {f'REPLACE ({clean})' if clean else ''} "
        f"FROM read_parquet({files}, union_by_name = true)"
    )

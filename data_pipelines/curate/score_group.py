"""A group of a score table: columns that were computed together, for each source in Parquet files of a range of ids.

    GROUP/manifest.json                what the values were computed from, and the type and meaning of each column
    GROUP/SOURCE/000000000000.parquet  the rows of ids 0 to 65,535, and so on

Each file has `id`, `key` and the columns. A sample without a row has no values. Another engine may write a group: then
it has no manifest, and its files may have any names that end in `.parquet` and any order of rows.
"""

import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tercet.data_pipelines.curate.engines import arrow
from tercet.errors import UserError
from tercet.whole_file import remove_drafts, whole_file, write_json

PART = 2**16  # ids of one file
PIECE = 2**12  # ids that are written together while a part is computed: a kill loses no more
PIECES = ".pieces"
MANIFEST = "manifest.json"
GROUP_NAME = re.compile(r"[a-z][a-z0-9_]*")  # so that an expression needs no quotes
ID, KEY = "id", "key"


@dataclass(frozen=True)
class ScoreColumn:
    """The type, as pyarrow names it, and what the values mean."""

    type: str
    meaning: str


Columns = Mapping[str, ScoreColumn]
Request = Mapping[str, object]


@dataclass(frozen=True)
class ScoreGroup:
    """The group in a folder, and the number of samples of each source of its table."""

    folder: Path
    samples: Mapping[str, int]

    @property
    def name(self) -> str:
        return self.folder.name

    @classmethod
    def begin(cls, folder: Path, samples: Mapping[str, int], request: Request, columns: Columns) -> "ScoreGroup":
        """Creates the group of this request or continues it. Refuses a folder with values of another request."""
        facts = {"request": dict(request), "columns": {name: asdict(column) for name, column in columns.items()}}
        facts = json.loads(json.dumps(facts))
        group = cls(folder, samples)
        if not (folder / MANIFEST).is_file():
            if any(folder.glob("*/*.parquet")):
                raise UserError(f"another program wrote {folder}; choose another name, or remove the folder")
            write_json(folder / MANIFEST, facts)
        changed = _changed(group.facts.get("request", {}), facts["request"])
        if changed or list(group.facts["columns"]) != list(facts["columns"]):
            what = ", ".join(changed) or "columns"
            raise UserError(f"{folder} holds other values ({what} changed); choose another name, or remove the folder")
        return group

    @property
    def facts(self) -> dict[str, Any]:
        """The manifest. Empty for a group that another engine wrote."""
        try:
            found: dict[str, Any] = json.loads((self.folder / MANIFEST).read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(
                f"{self.folder / MANIFEST} is not JSON; remove {self.folder}, and compute it again"
            ) from error
        return found

    @property
    def sources(self) -> list[str]:
        """The sources that have files."""
        return [name for name in self.samples if self.files(name)]

    def parts(self, source: str) -> list[range]:
        """The ids of all parts."""
        count = self.samples[source]
        return [range(start, min(start + PART, count)) for start in range(0, count, PART)]

    def part_with(self, source: str, id: int) -> range:
        first = id // PART * PART
        return range(first, min(first + PART, self.samples[source]))

    def missing(self, source: str) -> list[range]:
        """The ids of the parts that do not exist yet."""
        return [ids for ids in self.parts(source) if not self._place(source, ids.start).is_file()]

    def missing_pieces(self, source: str) -> list[range]:
        """The ids of the pieces that do not exist yet, of the missing parts."""
        parts = self.missing(source)
        pieces = [part[start : start + PIECE] for part in parts for start in range(0, len(part), PIECE)]
        return [ids for ids in pieces if not self._piece(source, ids.start).is_file()]

    def write_piece(self, source: str, ids: range, table: Any) -> None:
        self._write(self._piece(source, ids.start), table)

    def join_pieces(self, source: str, ids: range) -> None:
        """Writes a part from its pieces."""
        pieces = [self._opened(self._piece(source, start)).read() for start in range(ids.start, ids.stop, PIECE)]
        self.write(source, ids, arrow().concat_tables(pieces))

    def write(self, source: str, ids: range, table: Any) -> None:
        """Writes the rows of a part, a pyarrow table with `id`, `key` and the columns, atomically."""
        self._write(self._place(source, ids.start), table)

    def _write(self, path: Path, table: Any) -> None:
        types = {ID: "int64", KEY: "string", **{name: one["type"] for name, one in self.facts["columns"].items()}}
        pa = arrow()
        schema = pa.schema([(name, pa.type_for_alias(type)) for name, type in types.items()])
        with whole_file(path) as draft:
            pa.parquet.write_table(table.select(list(types)).cast(schema), draft)

    def read(self, source: str, ids: range) -> Any:
        """The rows of a part that tercet wrote, as a pyarrow table."""
        return self._opened(self._place(source, ids.start)).read()

    def finish(self) -> None:
        """Removes pieces, and what killed processes have left. Call it once all parts exist."""
        for source in self.samples:
            shutil.rmtree(self.folder / source / PIECES, ignore_errors=True)
            remove_drafts(self.folder / source)

    def files(self, source: str) -> list[Path]:
        """In the order of their names; `glob` is the same for an engine."""
        return sorted(path for path in (self.folder / source).glob("*.parquet") if not path.name.startswith("."))

    def glob(self, source: str) -> str:
        """The pattern of the files of a source, as DuckDB's `read_parquet` takes it."""
        return str(self.folder / source / "*.parquet")

    def rows(self, source: str) -> int:
        """How many rows a source has."""
        return sum(self._opened(path).metadata.num_rows for path in self.files(source))

    def columns(self, source: str) -> dict[str, str]:
        """The columns that the files of a source have, with their types."""
        schema = self._opened(self.files(source)[0]).schema_arrow
        return {field.name: str(field.type) for field in schema if field.name not in (ID, KEY)}

    def batches(self, source: str, columns: Collection[str] | None = None) -> Iterator[Any]:
        """The rows of a source as pyarrow's record batches, of all columns or of `id` and some."""
        pa = arrow()
        for path in self.files(source):
            file = self._opened(path)
            names = file.schema_arrow.names if columns is None else [ID, *columns]
            for name in [ID, *names]:
                if name not in file.schema_arrow.names:
                    raise UserError(f"{path} has no column `{name}`; it has {', '.join(file.schema_arrow.names)}")
            for batch in file.iter_batches(PART, columns=names):
                yield batch.set_column(batch.schema.get_field_index(ID), ID, batch[ID].cast(pa.int64()))

    def _opened(self, path: Path) -> Any:
        pa = arrow()
        try:
            return pa.parquet.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: not a Parquet file, or a damaged one; remove it, and compute it again") from error

    def _piece(self, source: str, first: int) -> Path:
        return self.folder / source / PIECES / f"{first:012d}.parquet"

    def _place(self, source: str, first: int) -> Path:
        return self.folder / source / f"{first:012d}.parquet"


def _changed(before: Request, now: Request) -> list[str]:
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]

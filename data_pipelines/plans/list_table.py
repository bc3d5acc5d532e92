"""A list of samples as Parquet: a file or a folder of them, such as a decision of `tercet curate select`.

The columns are `id` or `key`, and `keep` (true or false) or `count`. With both, the count of a sample that is not kept
is 0. Other columns are not read. Any engine may write such files: pandas, Polars, DuckDB, Spark. The digest is that of
the values, so it depends neither on the engine nor on how files divide the rows. Imports no torch.

Shape letters: n rows of a block.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_128

from tercet.data_pipelines.plans.listing import LARGEST_COUNT, ListBlock, Listing
from tercet.data_pipelines.plans.order import Ints
from tercet.errors import UserError

SUFFIX = ".parquet"
ROWS_AT_ONCE = 2**16
NAMES, TIMES = ("id", "key"), ("keep", "count")


class ListTable(Listing):
    """A list as Parquet files, whose rows are numbered on from one to the next. `part`: prefers keys to ids."""

    def __init__(self, path: str, *, part: bool = False) -> None:
        self.path = path
        self._files = _files(Path(path))
        self._first_row = [0, *accumulate(_opened(file).metadata.num_rows for file in self._files)]
        known = _opened(self._files[0]).schema_arrow.names
        named = sorted(set(NAMES) & set(known), reverse=part)
        self._times = [name for name in TIMES if name in known]
        if not named or not self._times:
            raise UserError(
                f"{self._files[0]}: a list has a column `id` or `key`, and a column `keep` or `count`, "
                f"but this one has {', '.join(known)}"
            )
        self._name = named[0]

    @property
    def by_key(self) -> bool:
        return self._name == "key"

    def digest(self) -> str:
        names, counts = xxh3_128(), xxh3_128()
        for block in self.blocks():
            named = block.named
            names.update("".join(f"{key}\n" for key in named).encode() if isinstance(named, list) else named.tobytes())
            counts.update(block.count_n.tobytes())
        return xxh3_128(names.digest() + counts.digest()).hexdigest()[:16]

    def place(self, line: int) -> str:
        """Rows are counted from 1 in each file."""
        number = min(bisect_right(self._first_row, line - 1), len(self._files)) - 1
        return f"{self._files[number]}, row {line - self._first_row[number]}"

    def witnesses(self) -> Iterator[tuple[int, int, str]]:
        """The first row of each file, if it has both."""
        for file, first in zip(self._files, self._first_row, strict=False):
            if not self.by_key and "key" in _opened(file).schema_arrow.names:
                for batch in islice(_opened(file).iter_batches(1, columns=["id", "key"]), 1):
                    (id,), (key,) = (batch.column(name).to_pylist() for name in ("id", "key"))
                    if key is not None:
                        yield first + 1, id, key

    def blocks(self) -> Iterator[ListBlock]:
        for file, first in zip(self._files, self._first_row, strict=False):
            row = first + 1
            for batch in self._batches(file):
                yield self._block(batch, row)
                row += batch.num_rows

    def _batches(self, file: Path) -> Iterator[Any]:
        from pyarrow import ArrowException

        try:
            table = _opened(file)
            missing = {self._name, *self._times} - set(table.schema_arrow.names)
            if missing:
                raise UserError(f"{file} has no column `{min(missing)}`, but {self._files[0]} has one")
            yield from table.iter_batches(ROWS_AT_ONCE, columns=[self._name, *self._times])
        except (ArrowException, OSError) as error:
            raise _damaged(file) from error

    def _block(self, batch: Any, row: int) -> ListBlock:
        columns = {name: batch.column(name) for name in (self._name, *self._times)}
        for name, column in columns.items():
            self._check_type(name, column, row)
        named = columns[self._name].to_pylist() if self.by_key else _ints(columns["id"])
        once_n = np.ones(batch.num_rows, dtype=np.int64)
        keep_n, count_n = (_ints(columns[name]) if name in columns else once_n for name in TIMES)
        if not self.by_key:
            self._check_range("id", named, 2**63 - 1, "an id; give whole numbers from 0 up", row)
        words = f"a count; give a whole number from 0 to {LARGEST_COUNT:,}"
        self._check_range("count", count_n, LARGEST_COUNT, words, row)
        return ListBlock(row + np.arange(batch.num_rows, dtype=np.int64), named, count_n * keep_n)

    def _check_type(self, name: str, column: Any, row: int) -> None:
        from pyarrow import compute, types

        wanted = {
            "id": (types.is_integer, "whole numbers"),
            "key": (lambda kind: types.is_string(kind) or types.is_large_string(kind), "text"),
            "keep": (types.is_boolean, "true or false"),
            "count": (types.is_integer, "whole numbers"),
        }
        fits, words = wanted[name]
        if types.is_dictionary(column.type) or not fits(column.type):
            raise UserError(f"{self.place(row)}: `{name}` holds {column.type}; give {words}")
        if column.null_count:
            empty = int(np.flatnonzero(compute.is_null(column).to_numpy(zero_copy_only=False))[0])
            raise UserError(f"{self.place(row + empty)}: `{name}` is empty; give {words}, or leave out the row")

    def _check_range(self, name: str, value_n: Ints, most: int, words: str, row: int) -> None:
        (wrong,) = np.nonzero((value_n < 0) | (value_n > most))
        if len(wrong):
            raise UserError(f"{self.place(row + int(wrong[0]))}: `{value_n[wrong[0]]}` is not {words}")


def is_list_table(path: str) -> bool:
    """Whether the path is a Parquet file, or a folder with some in it or in its only folder."""
    place = Path(path)
    return place.suffix == SUFFIX or any(place.glob(f"*{SUFFIX}")) or any(place.glob(f"*/*{SUFFIX}"))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    folders = [path] if any(path.glob(f"*{SUFFIX}")) else sorted({file.parent for file in path.glob(f"*/*{SUFFIX}")})
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise UserError(f"{path} has a list for each of {names}; name one of them, such as {folders[0]}")
    if not folders:
        raise UserError(f"the list {path} cannot be read (No such file or directory); name a CSV or Parquet file")
    return sorted(folders[0].glob(f"*{SUFFIX}"))


def _opened(path: Path) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(f"{path}: Parquet needs pyarrow; pip install 'tercet[parquet]'") from error
    try:
        return ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: not a Parquet file, or a damaged one; write or fetch it again")


def _ints(column: Any) -> Ints:
    numbers: Ints = column.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers

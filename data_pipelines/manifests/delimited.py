"""CSV and TSV: a header, then rows; quotes around cells that contain the delimiter, a quote or a line break."""

import csv
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.table import Rows, Table
from tercet.errors import UserError

LONGEST_CELL = 2**24
DELIMITERS = (",", ";", "\t")
SNIFFED = 50  # rows that the delimiter is guessed from


def read_csv(path: Path) -> Table:
    return _delimited(path, ",")


def read_tsv(path: Path) -> Table:
    return _delimited(path, "\t")


def _delimited(path: Path, usual: str) -> Table:
    delimiter = _sniffed(path, usual)
    columns = next(_lines(path, delimiter), [])
    if not columns:
        raise UserError(f"{path} is empty; its first line must name the columns, such as path{usual}caption")
    if len(columns) == 1 and "|" in columns[0]:
        raise UserError(f"{path}: its cells are separated by `|`; separate them by commas, semicolons or tabs")
    if not all(column.isprintable() for column in columns):
        raise UserError(f"{path}: its header is not UTF-8 text; save it as UTF-8")
    if not any(columns) or len(set(columns)) < len(columns):
        raise UserError(f"{path}: its first line must name the columns, each once")
    return Table(path, tuple(columns), partial(_rows, path, delimiter))


def _sniffed(path: Path, usual: str) -> str:
    """The delimiter that gives most of the first rows as many cells as the header; of several, the most columns."""
    found = {delimiter: _fit(path, delimiter) for delimiter in (usual, *DELIMITERS)}
    return max(found, key=lambda delimiter: found[delimiter])  # of equal ones the usual, which is first


def _fit(path: Path, delimiter: str) -> tuple[float, int]:
    try:
        header, *rows = islice(_lines(path, delimiter), SNIFFED)
    except (UserError, ValueError):
        return 0.0, 0
    if len(header) < 2:
        return 0.0, 0
    return sum(len(row) == len(header) for row in rows) / (len(rows) or 1), len(header)


def _rows(path: Path, delimiter: str) -> Rows:
    lines = _lines(path, delimiter)
    columns = next(lines)
    for number, cells in enumerate(lines, start=1):
        fits = len(cells) == len(columns)
        yield number, dict(zip(columns, cells, strict=True)) if fits else BadSample("manifest: cells unlike the header")


def _lines(path: Path, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            yield from filter(None, reader)
        except csv.Error as error:
            raise UserError(
                f"{path}: line {reader.line_num} cannot be read ({error}); put quotes around a cell that contains the "
                "delimiter, a quote or a line break, and write a quote within as two"
            ) from error

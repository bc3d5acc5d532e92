"""CSV and TSV: a header, then rows; quotes around cells that hold the delimiter, a quote or a line break."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.table import Rows, Table
from tercet.errors import UserError

LONGEST_CELL = 2**24
NAMED = {",": "commas", "\t": "tabs"}
OTHERS = "\t;|,"
KINDS = "a .csv with commas, or a .tsv with tabs"


def read_csv(path: Path) -> Table:
    return _delimited(path, ",")


def read_tsv(path: Path) -> Table:
    return _delimited(path, "\t")


def _delimited(path: Path, delimiter: str) -> Table:
    lines = _lines(path, delimiter)
    columns = next(lines, [])
    if len(columns) == 1 and any(other in columns[0] for other in OTHERS):
        raise UserError(f"{path}: its cells seem not to be parted by {NAMED[delimiter]}; write it as {KINDS}")
    if not all(column.isprintable() for column in columns):
        raise UserError(f"{path}: its header is not UTF-8 text; save it as UTF-8")
    if not any(columns) or len(set(columns)) < len(columns):
        raise UserError(f"{path}: its first line must name the columns, each once")
    return Table(path, tuple(columns), partial(_rows, path, delimiter))


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
                f"{path}: line {reader.line_num} cannot be read ({error}); put quotes around a cell that holds the "
                "delimiter, a quote or a line break, and write a quote within as two"
            ) from error

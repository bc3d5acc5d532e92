"""Turns the rows of a table into entries; paths are relative to the folder of the table."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.languages import by_language
from tercet.data_pipelines.manifests.contents import value_in
from tercet.data_pipelines.manifests.entry import Entry, LeftOut, Outcome, safe_key, usable
from tercet.data_pipelines.manifests.medium import Medium, Span, further_kind, medium_of, named
from tercet.data_pipelines.manifests.roles import Roles, choose_roles, language_of
from tercet.data_pipelines.manifests.watched import watch
from tercet.errors import UserError

Row: TypeAlias = Mapping[str, object]
Rows: TypeAlias = Iterator[tuple[int, Row | BadSample]]  # numbered from one

LANGUAGE = "language"  # the key of the languages of the captions, one for each
ENOUGH = 100  # rows that the roles of the columns are guessed from


@dataclass(frozen=True)
class Table:
    """A file of rows: its columns, and a function that reads them from the start."""

    path: Path
    columns: tuple[str, ...]
    rows: Callable[[], Rows]


class TableManifest:
    """A table with the roles of its columns."""

    def __init__(self, table: Table, asked: Roles) -> None:
        self.watched = watch(table.path)
        looked_at = [row for _, row in islice(table.rows(), ENOUGH)]
        if not looked_at:
            raise UserError(f"{table.path} has no rows")
        first = [row for row in looked_at if not isinstance(row, BadSample)]
        self.roles = choose_roles(asked, table.columns, first, str(table.path))
        self.columns = table.columns
        self.unused = [c for c in table.columns if c not in self.roles.taken and c != self.roles.group]
        self.passed_over: Counter[str] = Counter()
        self._table = table

    def entries(self) -> Iterator[Outcome]:
        return usable(self._entry(number, row) for number, row in self._table.rows())

    def name(self, outcome: Outcome) -> str:
        return outcome.key if isinstance(outcome, Entry) and self.roles.key else f"row {outcome.row}"

    def _entry(self, number: int, row: Row | BadSample) -> Outcome:
        if isinstance(row, BadSample):
            return LeftOut(number, "", row.reason)
        names = _names(row, self.roles)
        try:
            return self._read(number, row, names)
        except BadSample as error:
            return LeftOut(number, named(next(iter(names.values()), "")), error.reason)

    def _read(self, number: int, row: Row, names: Mapping[str, Medium]) -> Entry:
        _check(names, self.roles)
        names = {**names, **_further(row, self.roles)}
        captions, languages = _captions(row, self.roles.text)
        meta = _meta(row, self.roles)
        if captions and all(languages):
            meta.setdefault(LANGUAGE, [*languages])
        if self.roles.group:
            meta["group"] = _plain(row.get(self.roles.group))
        key = f"{number:09d}" if self.roles.key is None else safe_key(str(row.get(self.roles.key) or ""))
        if not key:
            raise BadSample("no key")
        return Entry(number, key, self._table.path.parent, names, captions, meta)


def _names(row: Row, roles: Roles) -> dict[str, Medium]:
    """The media of a row by kind."""
    cells = {kind: row.get(column) for kind, column in roles.media.items()}
    return {kind: medium_of(cell) for kind, cell in cells.items() if cell is not None and cell != ""}


def _further(row: Row, roles: Roles) -> dict[str, Medium]:
    """Further media by kind. A cell holds one, or a list of them, also as JSON. Empty places of a list are left out."""
    further = {}
    for name, column in roles.files:
        for number, cell in enumerate(_as_list(value_in(row.get(column)))):
            if medium := medium_of(cell):
                further[further_kind(name, number)] = medium
    return further


def _check(names: Mapping[str, Medium], roles: Roles) -> None:
    """Refuses a row that lacks what the table has columns of, and empty files."""
    if not names and roles.media:
        raise BadSample("no picture or sound")
    for kind, medium in names.items():
        if medium == b"" or (isinstance(medium, Span) and not medium.size):
            raise BadSample(f"{kind}: empty file")
        if not medium:
            raise BadSample(f"{kind}: not a path")


def _captions(row: Row, columns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The captions of a row, and the language of each, as far as cells or columns name it."""
    found = [
        (caption, language or language_of(column))
        for column in columns
        for caption, language in _listed(_cell(row, column))
    ]
    if columns and not found:
        raise BadSample("text: empty")
    return tuple(caption for caption, _ in found), tuple(language for _, language in found)


def _meta(row: Row, roles: Roles) -> dict[str, object]:
    """The row as metadata, without empty cells, keys and media. A single column of captions is not repeated, unless its
    cells say more than the words."""
    left_out = roles.taken - {*roles.text} if len(roles.text) > 1 else roles.taken
    cells = {column: value_in(cell) for column, cell in row.items() if cell is not None and cell != ""}
    return {
        column: _plain(cell)
        for column, cell in cells.items()
        if column not in left_out or (column in roles.text and _says_more(cell))
    }


def _says_more(cell: object) -> bool:
    """Whether captions are by language, or objects."""
    return any(isinstance(one, Mapping) for one in _as_list(cell))


def _cell(row: Row, column: str) -> object:
    """The cell of a column, or what lies deeper in one, as `words.en`."""
    if column in row:
        return row[column]
    value: object = row
    for key in column.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _listed(cell: object) -> Iterator[tuple[str, str]]:
    """A cell holds one caption, a list of them, or captions by language; each caption with its language, if named."""
    cell = value_in(cell)
    for language, value in (by_language(cell) or {"": cell}).items():
        for caption in _as_list(value):
            if isinstance(caption, Mapping):
                caption = caption.get("text", caption.get("caption"))
            if caption is not None and str(caption).strip():
                yield str(caption).strip(), language


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _plain(value: object) -> object:
    """A value that JSON can hold: NaN becomes null, a date text, and bytes hexadecimal digits. Arrow gives every object
    the keys of all; those without a value are left out."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, str | int) else str(value)

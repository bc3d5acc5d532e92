"""JSON: an array of objects, or an object on each line."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.jsonl import read_jsonl
from tercet.data_pipelines.manifests.table import ENOUGH, Row, Rows, Table
from tercet.errors import UserError

BLANK = " \t\r\n"
EXPECTED = "expected an array of objects, as [{…}, {…}], or an object on each line"


def read_json(path: Path) -> Table:
    """Its columns are the keys of the first objects."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        first = next((line.strip() for line in file if line.strip()), "")
    if not first.startswith("["):
        return _of_lines(path, first)
    rows = [row for _, row in islice(_rows(path), ENOUGH) if not isinstance(row, BadSample)]
    return Table(path, tuple(dict.fromkeys(key for row in rows for key in row)), partial(_rows, path))


def _of_lines(path: Path, first: str) -> Table:
    try:
        if isinstance(json.loads(first), dict):
            return read_jsonl(path)
    except ValueError:
        pass
    raise UserError(f"{path}: {EXPECTED}")


def _rows(path: Path) -> Rows:
    for number, value in enumerate(_values(path), start=1):
        yield number, value if isinstance(value, dict) else BadSample("manifest: not an object")


def _values(path: Path) -> Iterator[Row | object]:
    """The elements of the array, decoded one by one."""
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    decoder, at = json.JSONDecoder(), _skip(text, text.index("[") + 1)
    try:
        while text[at] != "]":
            value, at = decoder.raw_decode(text, at)
            yield value
            at = _skip(text, at)
            if text[at] not in ",]":
                raise ValueError(f"expected a comma at character {at}")
            at = _skip(text, at + 1) if text[at] == "," else at
    except (ValueError, IndexError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); {EXPECTED}") from error


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in BLANK:
        at += 1
    return at

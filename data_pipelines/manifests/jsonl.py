"""JSON lines: an object on each line."""

import json
from functools import partial
from itertools import islice
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.table import ENOUGH, Row, Rows, Table


def read_jsonl(path: Path) -> Table:
    """Its columns are the keys of the first rows."""
    first = [row for _, row in islice(_rows(path), ENOUGH) if not isinstance(row, BadSample)]
    return Table(path, tuple(dict.fromkeys(key for row in first for key in row)), partial(_rows, path))


def _rows(path: Path) -> Rows:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _row(line)


def _row(line: bytes) -> Row | BadSample:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return BadSample("manifest: not UTF-8")
    except (ValueError, RecursionError):
        return BadSample("manifest: not JSON")
    return row if isinstance(row, dict) else BadSample("manifest: not an object")

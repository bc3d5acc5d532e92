"""Arrow tables, as Hugging Face saves datasets on disk, mapped into memory and never copied.

Pictures and sounds stay in the file: a row has the place of their bytes, and reading them later needs no pyarrow. Class
numbers are replaced by the names of the classes.
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tercet.data_pipelines.manifests.medium import Span
from tercet.data_pipelines.manifests.table import Row, Rows, Table
from tercet.errors import UserError

OFFSETS: dict[str, "np.dtype[Any]"] = {"binary": np.dtype(np.int32), "large_binary": np.dtype(np.int64)}


def read_arrow(path: Path) -> Table:
    _, reader = _opened(path)
    return Table(path, tuple(reader.schema.names), partial(_rows, path))


def _rows(path: Path) -> Rows:
    whole, reader = _opened(path)
    classes = class_names(reader.schema)
    number = 0
    for batch in reader:
        columns = [_cells(column, path, whole.address, whole.size) for column in batch.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            row = dict(zip(reader.schema.names, cells, strict=True))
            yield number, with_classes(row, classes)


def _cells(column: Any, path: Path, start: int, size: int) -> Iterator[object]:
    """The values of a column; for a column of bytes, their places in the file."""
    kind = str(column.type)
    if kind in OFFSETS and start <= column.buffers()[2].address < start + size:
        return _spans(column, path, start, OFFSETS[kind])
    if kind.startswith("struct") and {"bytes", "path"} <= {field.name for field in column.type}:
        pairs = zip(_cells(column.field("bytes"), path, start, size), column.field("path").to_pylist(), strict=True)
        return ({"bytes": data, "path": name} for data, name in pairs)
    return iter(column.to_pylist())


def _spans(column: Any, path: Path, start: int, width: "np.dtype[Any]") -> Iterator[Span | None]:
    _, offsets, values = column.buffers()
    ends = np.frombuffer(offsets, width)[column.offset : column.offset + len(column) + 1].tolist()
    base = values.address - start
    for there, begin, end in zip(column.is_valid().to_pylist(), ends, ends[1:], strict=False):
        yield Span(path.name, base + begin, end - begin) if there else None


def with_classes(row: Row, classes: Mapping[str, list[str]]) -> Row:
    return {**row, **{column: _class(row[column], names) for column, names in classes.items()}}


def _class(value: object, names: list[str]) -> object:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def class_names(schema: Any) -> Mapping[str, list[str]]:
    """Columns of class numbers, with the names that `datasets` writes into the schema."""
    described = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(described).get("info", {}).get("features", {}) if described else {}
    return {name: one["names"] for name, one in features.items() if one.get("_type") == "ClassLabel"}


def _opened(path: Path) -> tuple[Any, Any]:
    """The whole file in memory, and its batches."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise UserError(f"{path}: Arrow needs pyarrow; pip install 'tercet[parquet]'") from error
    try:
        with pa.memory_map(str(path)) as file:
            whole = file.read_buffer()
        return whole, pa.ipc.open_stream(whole)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a stream of Arrow tables, or a damaged one; save the data set again") from error

"""Parquet tables, read a few rows at a time."""

from functools import partial
from pathlib import Path
from typing import Any

from tercet.data_pipelines.manifests.arrow import class_names, with_classes
from tercet.data_pipelines.manifests.table import Rows, Table
from tercet.errors import UserError

ROWS_AT_ONCE = 128  # they may contain pictures


def read_parquet(path: Path) -> Table:
    return Table(path, tuple(_opened(path).schema_arrow.names), partial(_rows, path))


def _rows(path: Path) -> Rows:
    number = 0
    with _opened(path) as file:
        classes = class_names(file.schema_arrow)
        for batch in file.iter_batches(ROWS_AT_ONCE):
            for row in batch.to_pylist():
                number += 1
                yield number, with_classes(row, classes)


def _opened(path: Path) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(f"{path}: Parquet needs pyarrow; pip install 'tercet[parquet]'") from error
    try:
        return ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file, or a damaged one; write or fetch it again") from error

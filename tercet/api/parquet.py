"""Embeddings as one Parquet file, with a row for each sample and its vectors as lists of numbers.

The metadata of the file records the weights and data behind it.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tercet.api.data import Data
from tercet.api.embed import check_folder, embed
from tercet.api.model import Loadable
from tercet.errors import UserError
from tercet.eval.embedding.embed import EmbeddingTable
from tercet.eval.embedding.store import Store
from tercet.main_process import is_main_process
from tercet.whole_file import whole_file

FILE = "embeddings.parquet"
REQUEST = ("weights", "data", "transform")  # together they determine every vector


def embed_parquet(model: Loadable, data: Data, out: str | os.PathLike[str], dims: int | None = None) -> Store:
    """Writes `OUT/embeddings.parquet`, with a row group for each piece. The pieces stay in the cache."""
    arrow = _pyarrow()
    check_folder(out)
    store = embed(model, data, dims=dims)
    if not is_main_process():
        return store
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    request = {name: str(store.facts[name]) for name in REQUEST}
    _check_same(arrow, folder / FILE, request)
    widths = {name: found["dim"] for name, found in store.facts["modalities"].items()}
    schema = _schema(arrow, widths, request)
    with whole_file(folder / FILE) as draft, arrow.parquet.ParquetWriter(draft, schema) as writer:
        for piece in store.pieces():
            writer.write_table(arrow.Table.from_pylist(list(_rows(piece.table, widths)), schema=schema))
    return store


def _check_same(arrow: Any, path: Path, request: dict[str, str]) -> None:
    """Refuses to overwrite embeddings of other weights or data."""
    if not path.is_file():
        return
    written = json.loads((arrow.parquet.read_schema(path).metadata or {}).get(b"tercet", b"{}"))
    changed = [name for name in REQUEST if written.get(name) != request[name]]
    if changed:
        raise UserError(
            f"{path} holds other embeddings ({', '.join(changed)} changed); name another folder, or remove it"
        )


def _schema(arrow: Any, widths: dict[str, int], request: dict[str, str]) -> Any:
    vectors = [(name, arrow.list_(arrow.float32(), dim)) for name, dim in widths.items()]
    return arrow.schema(
        [("id", arrow.int64()), ("key", arrow.string()), ("caption", arrow.string()), *vectors],
        {"tercet": json.dumps(request)},
    )


def _rows(table: EmbeddingTable, widths: dict[str, int]) -> Iterator[dict[str, Any]]:
    """A sample with several rows of a modality keeps the first."""
    at = {name: table.first_rows(name) if name in table.vectors else {} for name in widths}
    for item, sample in enumerate(table.samples):
        vectors = {name: table.vectors[name][rows[item]].numpy() for name, rows in at.items() if item in rows}
        yield {"id": sample.id, "key": sample.key, "caption": next(iter(sample.text), None), **vectors}


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("Parquet needs pyarrow; pip install 'tercet[parquet]'") from error
    return pyarrow

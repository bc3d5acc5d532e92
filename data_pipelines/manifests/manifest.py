"""What lists samples that are not in shards: a table or a folder, opened by what its path is."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tercet.data_pipelines.manifests.delimited import read_csv, read_tsv
from tercet.data_pipelines.manifests.entry import Outcome
from tercet.data_pipelines.manifests.folder import FolderManifest
from tercet.data_pipelines.manifests.jsonl import read_jsonl
from tercet.data_pipelines.manifests.parquet import read_parquet
from tercet.data_pipelines.manifests.roles import Roles
from tercet.data_pipelines.manifests.table import Table, TableManifest
from tercet.errors import UserError, did_you_mean

READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}


class Manifest(Protocol):
    """Entries are read from the start each time, in the same order, and no two share a key."""

    roles: Roles
    passed_over: Counter[str]

    def entries(self) -> Iterator[Outcome]: ...


def open_manifest(path: Path, asked: Roles) -> Manifest:
    """The manifest at a path, with the columns asked for and guesses for the others."""
    if path.is_dir():
        return FolderManifest(path, asked)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; name a folder, or a CSV, TSV, JSONL or Parquet table")
    if suffix not in READERS:
        raise UserError(f"{path}: not a folder, and no known kind of table; {did_you_mean(suffix, READERS)}")
    return TableManifest(READERS[suffix](path), asked)

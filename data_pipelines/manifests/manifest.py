"""Opens a manifest, a list of samples outside of shards: a table or a folder, by its path."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from tercet.data_pipelines.manifests.arrow import read_arrow
from tercet.data_pipelines.manifests.delimited import read_csv, read_tsv
from tercet.data_pipelines.manifests.entry import Entry, Outcome
from tercet.data_pipelines.manifests.folder import FolderManifest
from tercet.data_pipelines.manifests.json_array import read_json
from tercet.data_pipelines.manifests.jsonl import read_jsonl
from tercet.data_pipelines.manifests.medium import is_remote
from tercet.data_pipelines.manifests.parquet import read_parquet
from tercet.data_pipelines.manifests.roles import Roles
from tercet.data_pipelines.manifests.table import ENOUGH, Table, TableManifest
from tercet.data_pipelines.manifests.watched import Watched
from tercet.errors import UserError, did_you_mean

READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}


class Manifest(Protocol):
    """Entries are read from the start each time, in the same order, and no two share a key."""

    roles: Roles
    columns: tuple[str, ...]  # of a table
    unused: list[str]  # columns that have no role
    passed_over: Counter[str]
    watched: Watched  # the table, or the folders that were read

    def entries(self) -> Iterator[Outcome]: ...

    def name(self, outcome: Outcome) -> str:
        """How messages name it: by its key, its row, or its path."""
        ...


def open_manifest(path: Path, asked: Roles) -> Manifest:
    """The manifest at a path, with the columns asked for and guesses for the others."""
    if path.is_dir():
        return FolderManifest(path, asked)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise UserError(f"{path} does not exist; name a folder, or a CSV, TSV, JSON, JSONL, Parquet or Arrow table")
    if suffix not in READERS:
        raise UserError(f"{path} is neither a folder nor a known kind of table; {did_you_mean(suffix, READERS)}")
    return TableManifest(READERS[suffix](path), asked)


def check_files(manifest: Manifest) -> None:
    """Refuses a table none of whose first files exists, before a long run leaves out every row."""
    paths = [path for entry in islice(manifest.entries(), ENOUGH) if isinstance(entry, Entry) for path in _paths(entry)]
    if paths and not any(map(os.path.isfile, paths)):
        which = f"none of the first {len(paths)} files exists, beginning with {paths[0]}"
        raise UserError(
            f"{which if len(paths) > 1 else f'{paths[0]} does not exist'}; paths in a table are relative to its folder"
        )


def _paths(entry: Entry) -> list[Path]:
    names = (medium for medium in entry.names.values() if isinstance(medium, str))
    return [entry.root / name for name in names if not is_remote(name)]

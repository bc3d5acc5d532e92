"""Finds the manifests that a config names: tables, a folder, a pattern of files, or a dataset saved on disk."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from glob import glob, iglob
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from tercet.data_pipelines.manifests.folder import FolderManifest, kind_of
from tercet.data_pipelines.manifests.manifest import READERS, Manifest, open_manifest
from tercet.data_pipelines.manifests.roles import Roles
from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.data_pipelines.shards.find import unbraced
from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.shards.transport import download
from tercet.errors import UserError, did_you_mean

SAVED = "hf:"
WILD = "*?["
LARGEST_TABLE = 10**10
DICT, STATE = "dataset_dict.json", "state.json"  # what `datasets` writes beside the tables that it saves


@dataclass(frozen=True)
class ManifestFile:
    """A table or a folder: its name in messages, its path, and the folder that paths in it are relative to."""

    label: str
    path: str
    root: str
    pattern: str = ""

    @property
    def index(self) -> str:
        """The path that the name of its index is made from: beside a table, within a folder."""
        return os.path.join(self.path, "folder") if os.path.isdir(self.path) else self.path

    def open(self, asked: Roles) -> Manifest:
        if not self.pattern:
            return open_manifest(Path(self.path), asked)
        matching = set(map(Path, glob(self.pattern, recursive=True)))
        return FolderManifest(Path(self.path), asked, matching.__contains__)


def is_manifest(spec: str | Sequence[str]) -> bool:
    """Whether it lists samples outside of shards. A folder that contains tars is a set of shards."""
    specs = [spec] if isinstance(spec, str) else spec
    lists = [one for one in specs if _is_manifest(one)]
    if lists and len(lists) < len(specs):
        raise UserError(f"{redacted(lists[0])} is not a shard, but others in the list are; name them as two sources")
    return bool(lists)


def is_table(spec: str | Sequence[str]) -> bool:
    """Whether it is a table, with columns."""
    return is_manifest(spec) and not os.path.isdir(find_pieces(spec)[0].path)


def find_pieces(spec: str | Sequence[str]) -> list[ManifestFile]:
    """The tables or folders that a config names, in the order of their rows."""
    specs = [spec] if isinstance(spec, str) else spec
    pieces = list(chain.from_iterable(_pieces(word) for one in specs for word in unbraced(one)))
    twice = [piece.label for piece in pieces if pieces.count(piece) > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice; name each table once")
    return pieces


def _is_manifest(one: str) -> bool:
    if one.startswith(SAVED):
        return True
    if os.path.isdir(one):
        return not any(Path(one).glob("*.tar"))
    suffix = Path(urlsplit(one).path if is_url(one) else one).suffix.lower()
    if suffix in READERS:
        return True
    if is_url(one):
        return False
    matching = iglob(one, recursive=True) if any(sign in suffix for sign in WILD) else [one]
    return any(kind_of(Path(path).suffix[1:].lower()) for path in matching)


def _pieces(one: str) -> list[ManifestFile]:
    if one.startswith(SAVED):
        return _saved(one.removeprefix(SAVED))
    if is_url(one):
        return [_fetched(one)]
    if os.path.isdir(one):
        return (
            _saved(one)
            if any(os.path.exists(os.path.join(one, name)) for name in (DICT, STATE))
            else [ManifestFile(one, one, one)]
        )
    if Path(one).suffix.lower() in READERS:
        return _tables(one)
    if not glob(one, recursive=True):
        raise UserError(f"no file matches {one}; name a folder, a pattern as `photos/**/*.jpg`, or a table")
    return [ManifestFile(one, _root(one), _root(one), one)]


def _tables(pattern: str) -> list[ManifestFile]:
    paths = sorted(glob(pattern, recursive=True)) or [pattern]
    if not os.path.isfile(paths[0]):
        near = [str(path) for path in Path(_root(pattern)).glob("*") if path.suffix.lower() in READERS]
        hint = did_you_mean(pattern, near) if near else "paths are relative to where the command runs"
        raise UserError(f"the table {pattern} does not exist; {hint}")
    return [ManifestFile(path, path, os.path.dirname(path)) for path in paths]


def _root(pattern: str) -> str:
    """The folder above the first part with a wildcard."""
    parts = Path(pattern).parts
    wild = next((i for i, part in enumerate(parts) if any(sign in part for sign in WILD)), len(parts) - 1)
    return str(Path(*parts[:wild]))


def _saved(folder: str) -> list[ManifestFile]:
    """The tables of a data set that `datasets` saved, in its order."""
    if os.path.isfile(os.path.join(folder, DICT)):
        splits = json.loads(Path(folder, DICT).read_text(encoding="utf-8"))["splits"]
        raise UserError(
            f"{folder} contains the splits {', '.join(splits)}; name one of them, as hf:{folder}/{splits[0]}"
        )
    if not os.path.isfile(os.path.join(folder, STATE)):
        raise UserError(
            f"{folder} was not written by `save_to_disk` of `datasets`: it has no {STATE}; name a folder that was"
        )
    files = [one["filename"] for one in json.loads(Path(folder, STATE).read_text(encoding="utf-8"))["_data_files"]]
    return [ManifestFile(path, path, folder) for path in (os.path.join(folder, name) for name in files)]


@cache
def _fetched(url: str) -> ManifestFile:
    """A table behind a URL, fetched by every run; paths in it are relative to the URL."""
    digest = blake2b(url.encode(), digest_size=12).hexdigest()
    path = cache_folder() / "tables" / f"{digest}{Path(urlsplit(url).path).suffix.lower()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        download(url, part, Patience(), LARGEST_TABLE)
        if not path.exists() or path.read_bytes() != part.read_bytes():
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return ManifestFile(redacted(url), str(path), url.partition("?")[0].rpartition("/")[0])

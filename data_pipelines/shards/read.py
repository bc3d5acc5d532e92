"""Samples read by id from indexed shards: a `pread` for each file that is wanted, never an extraction."""

import os
from collections.abc import Container, Sequence
from functools import lru_cache
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.index import Index, build_index
from tercet.data_pipelines.shards.tar import damaged

OPEN_SHARDS = 64
LARGEST_FILE = 256 * 2**20


class OpenShard:
    """A shard open for reading, closed when the last reader lets go of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.descriptor)

    def read(self, offset: int, size: int) -> bytes:
        payload = os.pread(self.descriptor, size, offset)
        if len(payload) < size:
            raise damaged(self.path, f"it ends before byte {offset + size} and was longer when it was indexed")
        return payload


class Shards:
    """The samples of a set of shards, by id; safe to read from several threads."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._open = lru_cache(maxsize=OPEN_SHARDS)(OpenShard)

    def __len__(self) -> int:
        return len(self.index)

    def read(self, id: int, wanted: Container[str]) -> dict[str, bytes]:
        """The sample's files of the wanted extensions."""
        shard = self._open(self.index.shard(id))
        files = {extension: place for extension, place in self.index.files(id).items() if extension in wanted}
        if any(size > LARGEST_FILE for _, size in files.values()):
            raise BadSample("file over the size cap")
        return {extension: shard.read(offset, size) for extension, (offset, size) in files.items()}


def open_shards(spec: str | Sequence[str]) -> Shards:
    """Find, index and open the shards that a config names."""
    return Shards(build_index([Path(shard) for shard in find_shards(spec)]))

"""A shard open for reading: its index in memory, a descriptor, and a `pread` for each file that is wanted."""

import os
from collections.abc import Collection

from safetensors import SafetensorError
from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.further_files import is_wanted
from tercet.data_pipelines.shards.fingerprint import fingerprint_of
from tercet.data_pipelines.shards.index import kind_of
from tercet.data_pipelines.shards.record import Record, load_index
from tercet.data_pipelines.source import LARGEST_FILE, Files
from tercet.system import BINARY, descriptors, pread

OPEN_SHARDS = 512  # of a source: twice the usual number of streams, because a stream may read from two shards at once
DESCRIPTORS = 2**16  # for a hundred sources


def most_open() -> int:
    """How many shards of a source may stay open. Raises the limit on descriptors as far as allowed."""
    return max(1, min(OPEN_SHARDS, descriptors(DESCRIPTORS) // 4))


class OpenShard:
    """Closed with its last reference. Any problem with a sample is a `BadSample`."""

    def __init__(self, record: Record) -> None:
        self._descriptor = -1
        try:
            self.index = load_index(record)
            self._descriptor = os.open(record.shard, BINARY)
            same = record.checksums or fingerprint_of(self._descriptor) == record.fingerprint
        except (OSError, SafetensorError) as error:
            raise BadSample("shard: cannot be opened") from error
        if not same or len(self.index) != record.samples:  # checksums tell more: which samples are not what they were
            raise BadSample("shard: changed since it was indexed")
        self._first, self._code = self.index.first.data, self.index.code_M.data  # quicker to ask for one number
        self._offset, self._size = self.index.offset_M.data, self.index.size_M.data
        self._checksum = None if self.index.checksum_M is None else self.index.checksum_M.data
        self._keys, self._key_first = self.index.key_K.tobytes(), self.index.key_first.data
        self._extensions = self.index.extensions
        self._wanted: dict[frozenset[str], dict[int, str]] = {}  # the file of each code, by wanted files

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def key(self, row: int) -> str:
        key = self._keys[self._key_first[row] : self._key_first[row + 1]]
        return key.decode("utf-8", "surrogateescape")

    def size(self, row: int, modality: str) -> int:
        """Bytes of the sample's first file of a modality; 0 where it has none."""
        places = range(self._first[row], self._first[row + 1])
        kinds = (kind_of(self._extensions[self._code[place]]) for place in places)
        return next((self._size[place] for place, kind in zip(places, kinds, strict=True) if kind == modality), 0)

    def read(self, row: int, wanted: Collection[str]) -> Files:
        """The sample's files that are wanted, by extension."""
        codes, files = self._codes(frozenset(wanted)), {}
        for place in range(self._first[row], self._first[row + 1]):
            if extension := codes.get(self._code[place]):
                files[extension] = self._payload(place)
        return files

    def _codes(self, wanted: frozenset[str]) -> dict[int, str]:
        if wanted not in self._wanted:
            named = enumerate(self._extensions)
            self._wanted[wanted] = {code: extension for code, extension in named if is_wanted(extension, wanted)}
        return self._wanted[wanted]

    def _payload(self, place: int) -> bytes:
        size = self._size[place]
        if size > LARGEST_FILE:
            raise BadSample("file over the size cap")
        try:
            payload = pread(self._descriptor, size, self._offset[place])
        except OSError as error:
            raise BadSample("shard: cannot be read") from error
        if len(payload) < size:
            raise BadSample("shard: shorter than its index")
        if self._checksum is not None and xxh3_64_intdigest(payload) != self._checksum[place]:
            raise BadSample("payload does not match its checksum")
        return payload

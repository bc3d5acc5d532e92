"""Reads the samples of an index row by row, as files by extension, like those of a shard."""

import json
import os
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.text import decode_meta
from tercet.data_pipelines.further_files import PLACE, wanted_as
from tercet.data_pipelines.manifests.contents import modality_of
from tercet.data_pipelines.manifests.copies import Copies
from tercet.data_pipelines.manifests.index import ManifestIndex
from tercet.data_pipelines.manifests.medium import (
    Span,
    extension_of,
    file_of,
    is_remote,
    located,
    read_file,
    read_span,
)
from tercet.data_pipelines.source import Files
from tercet.modality import FILES

TEXTS = {"txt": "captions", "json": "meta"}  # files whose content is in the index itself, and its names there


class ManifestRows:
    """`counts`: the rows of each table, whose paths are relative to its `root`. `payload`: the file of media without a
    name. `copies` fetches remote files, if there are any."""

    def __init__(
        self, index: ManifestIndex, roots: Sequence[str], counts: Sequence[int], payload: str, copies: Copies | None
    ) -> None:
        self.index = index
        self._roots, self._payload, self._copies = roots, payload, copies
        self._first = [0, *accumulate(counts)]

    def table(self, row: int) -> int:
        return bisect_right(self._first, row) - 1

    def key(self, row: int) -> str:
        return self.index.text("key", row)

    def path(self, row: int, kind: str) -> str:
        """The path of its medium of this kind, or of the first with a name; empty if none has a name."""
        wanted = kind in self.index.kinds and self.index.has(kind, row)
        return self._place(kind, row) if wanted else next(self._paths(row), "")

    def size(self, row: int, kind: str) -> int:
        """Bytes of its medium of the kind; 0 where it has none, or one behind a URL."""
        if kind not in self.index.kinds:
            return 0
        place = self._place(kind, row) if self.index.has(kind, row) else ""
        if size := self.index.number(f"{kind}.size", row):
            return size
        return os.path.getsize(place) if place and not is_remote(place) and os.path.exists(place) else 0

    def state(self, row: int) -> str:
        """Sizes and times of its files on this machine."""
        return "".join(map(_state, self._paths(row)))

    def read(self, rows: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        """The wanted files of each row, or the reason why it cannot be used."""
        kinds = [kind for kind in self.index.kinds if _is_wanted(kind, wanted)]
        if self._copies:
            named = ((kind, row) for row in rows for kind in kinds if self.index.has(kind, row))
            places = ((kind, self._place(kind, row)) for kind, row in named)
            self._copies.fetch((kind, place) for kind, place in places if is_remote(place))
        return [self._read(row, wanted, kinds) for row in rows]

    def _read(self, row: int, wanted: Collection[str], kinds: Sequence[str]) -> Files | BadSample:
        if self.index.has("reason", row):
            return BadSample(self.index.text("reason", row))
        try:
            return self._files(row, wanted, kinds)
        except BadSample as bad:
            return bad

    def _files(self, row: int, wanted: Collection[str], kinds: Sequence[str]) -> Files:
        texts = {extension: self.index.bytes(name, row) for extension, name in TEXTS.items() if extension in wanted}
        files = {extension: data for extension, data in texts.items() if data}
        for kind in kinds:
            name, size = self.index.text(kind, row), self.index.number(f"{kind}.size", row)
            if not name and not size:
                continue
            data = self._medium(kind, row, size)
            if kind == "json":
                files["json"] = json.dumps(decode_meta(files["json"]) | decode_meta(data)).encode()
            else:
                files[file_of(kind, extension_of(modality_of(kind, name, data), name))] = data
        return files

    def _medium(self, kind: str, row: int, size: int) -> bytes:
        place = self._place(kind, row) if self.index.has(kind, row) else self._payload
        if size:
            return read_span(kind, Span(place, self.index.number(f"{kind}.offset", row), size))
        return self._copies.read(kind, place) if self._copies and is_remote(place) else read_file(kind, place)

    def _paths(self, row: int) -> Iterator[str]:
        return (self._place(kind, row) for kind in self.index.kinds if self.index.has(kind, row))

    def _place(self, kind: str, row: int) -> str:
        return located(self._roots[self.table(row)], self.index.text(kind, row))


def _is_wanted(kind: str, wanted: Collection[str]) -> bool:
    """Whether files of a kind may be wanted. The modality of a further file is only known once it is read."""
    if kind.startswith(PLACE):
        name, _, _ = kind.removeprefix(PLACE).rpartition(".")
        return any(wanted_as(name, modality) in wanted for modality in FILES)
    return any(extension in wanted for extension in FILES.get(kind, (kind,)))


def _state(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return f"{path}\0"
    return f"{found.st_size} {found.st_mtime_ns}\0"

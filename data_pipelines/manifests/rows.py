"""The samples of an index, row by row: the files that each has, as though they stood in a shard."""

import json
from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.text import decode_meta
from tercet.data_pipelines.manifests.copies import Copies
from tercet.data_pipelines.manifests.index import Index
from tercet.data_pipelines.manifests.medium import Span, extension_of, is_remote, located, read_file, read_span
from tercet.data_pipelines.source import Files
from tercet.modality import FILES

SAID = {"txt": "captions", "json": "told"}  # what stands in the index itself, and the files that it stands for


class Rows:
    """`counts`: the rows of each table, whose relative paths begin at its `root`. `payload` holds what has no name."""

    def __init__(self, index: Index, roots: Sequence[str], counts: Sequence[int], payload: str, copies: Copies) -> None:
        self.index = index
        self._roots, self._payload, self._copies = roots, payload, copies
        self._first = [0, *accumulate(counts)]
        self._extensions = {kind: FILES.get(kind, (kind,)) for kind in index.kinds}

    def table(self, row: int) -> int:
        return bisect_right(self._first, row) - 1

    def key(self, row: int) -> str:
        return self.index.text("key", row)

    def fetch(self, rows: Sequence[int], wanted: Collection[str]) -> None:
        """What of these rows is behind URLs."""
        named = ((kind, row) for row in rows for kind in self._kinds(wanted) if self._names(kind, row))
        places = ((kind, self._place(kind, row)) for kind, row in named)
        self._copies.fetch((kind, place) for kind, place in places if is_remote(place))

    def read(self, row: int, wanted: Collection[str]) -> Files | BadSample:
        if self.index.has("reason", row):
            return BadSample(self.index.text("reason", row))
        try:
            return self._files(row, wanted)
        except BadSample as bad:
            return bad

    def _files(self, row: int, wanted: Collection[str]) -> Files:
        said = {extension: self.index.bytes(name, row) for extension, name in SAID.items() if extension in wanted}
        files = {extension: data for extension, data in said.items() if data}
        for kind in self._kinds(wanted):
            if not self._has(kind, row):
                continue
            data = self._medium(kind, row)
            if kind == "json":
                files["json"] = json.dumps(decode_meta(files["json"]) | decode_meta(data)).encode()
            else:
                files[extension_of(kind, self.index.text(kind, row))] = data
        return files

    def _kinds(self, wanted: Collection[str]) -> list[str]:
        return [kind for kind, extensions in self._extensions.items() if any(one in wanted for one in extensions)]

    def _has(self, kind: str, row: int) -> bool:
        return self._names(kind, row) or self.index.number(f"{kind}.size", row) > 0

    def _names(self, kind: str, row: int) -> bool:
        return self.index.has(kind, row)

    def path(self, row: int) -> str:
        """Of its first medium; nothing where that has no name."""
        kind = next((kind for kind in self._extensions if self._has(kind, row)), "")
        return self._place(kind, row) if kind and self._names(kind, row) else ""

    def _place(self, kind: str, row: int) -> str:
        return located(self._roots[self.table(row)], self.index.text(kind, row))

    def _medium(self, kind: str, row: int) -> bytes:
        place = self._place(kind, row) if self._names(kind, row) else self._payload
        if size := self.index.number(f"{kind}.size", row):
            return read_span(kind, Span(place, self.index.number(f"{kind}.offset", row), size))
        return self._copies.read(kind, place) if is_remote(place) else read_file(kind, place)

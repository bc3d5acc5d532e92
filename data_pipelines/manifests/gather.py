"""Gathers the entries of manifests into the arrays of an index. A row that cannot be used keeps its place."""

import os
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest, xxh3_128

from tercet.data_pipelines.manifests.entry import Entry, Outcome, text_files
from tercet.data_pipelines.manifests.index import Strings, narrow
from tercet.data_pipelines.manifests.medium import Medium, Span, is_remote, named, read_span
from tercet.data_pipelines.manifests.reading import Reading


class MediaArrays:
    """The media of one kind: their names, and the places of bytes in a file. Rows without one are filled in later."""

    def __init__(self) -> None:
        self.names, self.offsets, self.sizes = Strings(), array("Q"), array("Q")

    def put(self, row: int, name: str, offset: int, size: int) -> None:
        self.fill(row)
        self.names.append(name)
        self.offsets.append(offset)
        self.sizes.append(size)

    def fill(self, count: int) -> None:
        missing = count - len(self.sizes)
        self.names.fill(count)
        self.offsets.extend([0] * missing)
        self.sizes.extend([0] * missing)

    def arrays(self, kind: str) -> dict[str, NDArray[Any]]:
        return {**self.names.arrays(kind), f"{kind}.offset": narrow(self.offsets), f"{kind}.size": narrow(self.sizes)}


class Gatherer:
    """Adds rows in their order. Bytes that cannot be read from their table later go to `payload`."""

    def __init__(self, reading: Reading, payload: IO[bytes]) -> None:
        self._reading, self._payload = reading, payload
        self._rows = array("Q")
        self._texts = {name: Strings() for name in ("key", "captions", "meta", "reason")}
        self._media: dict[str, MediaArrays] = {}  # by kind
        self._wholes = array("Q")  # a hash of each row's media and captions
        self.identities = array("Q")  # of its first medium, or of its captions
        self._state = xxh3_128()
        self.left_out: Counter[str] = Counter()
        self.classes: set[str] = set()
        self.alike = array("Q")  # rows whose group is the name of their class
        self.remote = False  # whether anything is behind a URL

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, name: str, outcome: Outcome, root: str) -> None:
        """`name`: the key of the row; `root`: the folder of its relative paths, as seen from the first table."""
        self._rows.append(outcome.row)
        self._texts["key"].append(name)
        if isinstance(outcome, Entry):
            self._add_entry(outcome, root)
        else:
            self.left_out[outcome.reason] += 1
            self._add({}, {"reason": outcome.reason}, [("row", f"{root}/{outcome.row}".encode())])
        self._state.update(f"{name}\0{self._wholes[-1]}\0".encode())

    def arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {"row": narrow(self._rows), "repeated": self._repeated()}
        for name, strings in self._texts.items():
            arrays |= strings.arrays(name)
        for kind, column in self._media.items():
            column.fill(len(self))
            arrays |= column.arrays(kind)
        return arrays

    @property
    def fingerprint(self) -> str:
        return self._state.hexdigest()

    def _add_entry(self, entry: Entry, root: str) -> None:
        folder = entry.meta.get("class") if "text" not in entry.names and "json" not in entry.names else None
        names = self._reading.names(entry.captions, folder)
        captions = self._reading.templated(names, entry.names) if names else entry.captions
        alike = bool(names) and "group" not in entry.meta  # samples of one class are not negatives of each other
        files = text_files(captions, {**entry.meta, "group": "\n".join(names)} if alike else entry.meta)
        self._state.update(files["json"].encode())
        self.classes.update([folder] if isinstance(folder, str) else [])
        self.remote = self.remote or is_remote(root) or any(map(is_remote, map(named, entry.names.values())))
        contents = [(kind, self._content(medium, entry.root, root)) for kind, medium in entry.names.items()]
        self._add(entry.names, {"captions": files.get("txt", ""), "meta": files["json"]}, contents)
        if alike:
            self.alike.append(len(self) - 1)

    def _add(self, names: Mapping[str, Medium], texts: Mapping[str, str], contents: list[tuple[str, bytes]]) -> None:
        for name in ("captions", "meta", "reason"):
            self._texts[name].append(texts.get(name, ""))
        for kind, medium in names.items():
            self._media.setdefault(kind, MediaArrays()).put(len(self) - 1, *self._placed(medium))
        hashes = [xxh3_64_intdigest(content) for _, content in contents]
        whole = xxh3_64_intdigest(f"{hashes}{texts.get('captions', '')}".encode())
        self.identities.append(hashes[0] if hashes else whole)
        self._wholes.append(whole)

    def _placed(self, medium: Medium) -> tuple[str, int, int]:
        if isinstance(medium, str):
            return medium, 0, 0
        if isinstance(medium, Span):
            return medium.file, medium.offset, medium.size
        offset = self._payload.tell()
        self._payload.write(medium)
        return "", offset, len(medium)

    def _content(self, medium: Medium, folder: Path, root: str) -> bytes:
        """What identifies a medium: its path, or its bytes."""
        if isinstance(medium, bytes):
            return medium
        if isinstance(medium, Span):
            return read_span("", Span(str(folder / medium.file), medium.offset, medium.size))
        return (medium if is_remote(medium) else os.path.normpath(os.path.join(root, medium))).encode()

    def _repeated(self) -> NDArray[np.unsignedinteger]:
        """Rows with the same media and captions as an earlier row."""
        whole_N = np.array(self._wholes, dtype=np.uint64)
        order_N = np.argsort(whole_N, kind="stable")
        same_N = whole_N[order_N[1:]] == whole_N[order_N[:-1]]
        return narrow(np.sort(order_N[1:][same_N]))

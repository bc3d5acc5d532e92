"""A manifest as a source: samples by id, read in place, by the same rules as shards.

Rows are divided into pieces like shards, so that each rank reads its own files in every epoch.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.build import index_file_for
from tercet.data_pipelines.manifests.copies import Copies, usual_copies
from tercet.data_pipelines.manifests.entry import NOT_UTF8
from tercet.data_pipelines.manifests.find import ManifestFile
from tercet.data_pipelines.manifests.index import ManifestIndex, mapped
from tercet.data_pipelines.manifests.index_file import IndexFile
from tercet.data_pipelines.manifests.reading import Reading
from tercet.data_pipelines.manifests.rows import ManifestRows
from tercet.data_pipelines.shards.cache import LIMIT
from tercet.data_pipelines.source import Files
from tercet.data_pipelines.split import Part, in_part
from tercet.errors import UserError
from tercet.main_process import say
from tercet.modality import FILES, how_to_convert
from tercet.plural import number_of

ROWS_PER_PIECE = 1024

say_once = cache(say)  # however often a source is opened


class ManifestSource:
    """The samples of a manifest or of a part of it. Only the names of its tables are sent to other processes."""

    def __init__(self, file: IndexFile, pieces: Sequence[ManifestFile], part: Part | None, copies: Copies) -> None:
        self._made_of = file, tuple(pieces), part, copies
        self.index = ManifestIndex(mapped(file.place))
        self._labels = [piece.label for piece in pieces]
        roots, facts = [piece.root for piece in pieces], file.facts
        self._rows = ManifestRows(
            self.index, roots, facts["counts"], str(file.payload), copies if facts["remote"] else None
        )
        self._row_N = _rows_of(self.index, part)

    def __reduce__(
        self,
    ) -> tuple[type["ManifestSource"], tuple[IndexFile, Sequence[ManifestFile], Part | None, Copies]]:
        return type(self), self._made_of

    def __len__(self) -> int:
        return len(self._row_N)

    @property
    def counts(self) -> NDArray[np.int64]:
        starts = np.arange(0, len(self), ROWS_PER_PIECE)
        return np.minimum(len(self) - starts, ROWS_PER_PIECE).astype(np.int64)

    @property
    def fingerprint(self) -> str:
        file, _, part, _ = self._made_of
        return f"{file.facts['fingerprint']} {part[0]:g} {part[1]:g}" if part else str(file.facts["fingerprint"])

    @property
    def snapshot(self) -> str:
        state = xxh3_128(self.fingerprint.encode())
        for row in self._row_N:
            state.update(self._rows.state(row).encode())
        return str(state.hexdigest())

    def shard(self, id: int) -> str:
        return self._labels[self._rows.table(self._row_N[id])]

    def key(self, id: int) -> str:
        return self._rows.key(self._row_N[id])

    def path(self, id: int, modality: str) -> str:
        """The path of its picture or sound, or of the table that contains it."""
        return self._rows.path(self._row_N[id], modality) or self.shard(id)

    def size(self, id: int, modality: str) -> int:
        return self._rows.size(self._row_N[id], modality)

    @property
    def tables(self) -> dict[str, int]:
        """The number of rows of each table, by its name in messages."""
        counts: list[int] = self._made_of[0].facts["counts"]
        return dict(zip(self._labels, counts, strict=True))

    @property
    def passed_over(self) -> dict[str, int]:
        """Files of a folder that are not part of a sample, by extension."""
        passed_over: dict[str, int] = self._made_of[0].facts["passed_over"]
        return passed_over

    @property
    def modalities(self) -> list[str]:
        """Those that any sample has. A `.json` beside a file may add captions."""
        kinds = {*self.index.kinds, *(["text"] if len(self.index.arrays["captions"]) else [])}
        return [modality for modality in FILES if modality in kinds or (modality == "text" and "json" in kinds)]

    @property
    def lacking(self) -> str:
        """What to do if the samples have one modality only; otherwise an empty string."""
        if len(self.modalities) != 1:
            return ""
        held, unused = ", ".join(self.modalities), self._made_of[0].facts["unused"]
        add = "captions" if held != "text" else "pictures or sounds"
        role = "text" if held != "text" else "image"
        columns = f". Columns that are not used: {', '.join(unused)}; name one, as {role}={unused[0]}" if unused else ""
        return f"every sample has {held} alone, and training needs two modalities; add {add}{columns}"

    def place(self, row: int) -> str:
        """The place of a row, for messages."""
        return f"{self._rows.key(row)} in {self._labels[self._rows.table(row)]}"

    def prefetch(self, ids: Sequence[int]) -> None:
        """Does nothing: the worker that reads remote files fetches them, many at once."""

    def read(self, ids: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        return self._rows.read([self._row_N[id] for id in ids], wanted)


def open_manifest_source(pieces: Sequence[ManifestFile], reading: Reading, limit_bytes: int = LIMIT) -> ManifestSource:
    """Indexes what is not indexed yet, and prints once how it is read."""
    file = index_file_for(pieces, reading)
    source = ManifestSource(file, pieces, reading.part, usual_copies(limit_bytes))
    if not len(source):
        raise UserError(
            f"{pieces[0].label} has none of its {number_of(len(source.index), 'row')} in the part {reading.part}; "
            "widen it, or raise data.held_out"
        )
    for line in _messages(pieces, file, source):
        say_once(line)
    return source


def _rows_of(index: ManifestIndex, part: Part | None) -> Sequence[int]:
    """The rows of a part: those whose mark, taken as a number from 0 to 1, lies in it."""
    if part is None:
        return range(len(index))
    rows: Sequence[int] = np.flatnonzero(in_part(index.arrays["mark"], part)).data
    return rows


def _messages(pieces: Sequence[ManifestFile], file: IndexFile, source: ManifestSource) -> Iterator[str]:
    facts, rows = file.facts, len(source.index)
    what = pieces[0].label + (f" and {len(pieces) - 1} more" if len(pieces) > 1 else "")
    read = facts["roles"] or (_classes(facts["classes"]) if facts["classes"] else "files that share a name")
    some = f"{len(source):,} of " if len(source) < rows else ""
    yield f"{what}: {read}; {some}{number_of(rows, 'row' if facts['roles'] else 'sample')}"
    if facts["left_out"]:
        fix = "; save the table as UTF-8" if NOT_UTF8 in facts["left_out"] else ""
        yield f"{what}: rows that cannot be used: {_listed(facts['left_out'])}{fix}"
    if facts["passed_over"]:
        yield f"{what}: files that are not part of a sample: {_listed(facts['passed_over'])}"
        yield from (f"{what}: {line}" for line in how_to_convert(facts["passed_over"]))
    if repeated := source.index.arrays["repeated"].tolist():
        first = source.place(repeated[0])
        yield f"{what}: rows that repeat another one, with the same file and caption: {len(repeated):,}, first {first}"


def _classes(count: int) -> str:
    return f"{count:,} classes" if count > 1 else "1 class"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} × {what}" for what, count in counts.items())

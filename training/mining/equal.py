"""Which samples describe the same thing, and are therefore never negatives of each other.

Two samples are equal if they share their group, one of their captions, or the file of their picture or sound. Each of
these is a mark, a 64-bit hash; a sample may have several marks of one kind.

Shape letters: m marks of a piece, q queries, c candidates, p pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.groups import GroupReader
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.captions.sidecar import MetaReader
from tercet.data_pipelines.config import SplitConfig
from tercet.data_pipelines.decode.item import extension_of
from tercet.data_pipelines.source import Files, Source
from tercet.data_pipelines.survey.content import content_hash
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.pool import worker_pool
from tercet.modality import FILES
from tercet.training.mining.pieces import Arrays

Ids = NDArray[np.int64]
CHUNK = 64  # samples that a thread reads at once


def kinds() -> tuple[str, ...]:
    """Of marks: the group, the captions, and the file of each other modality."""
    return ("group", "text", *(name for name in FILES if name != "text"))


@dataclass(frozen=True)
class Marks:
    """Marks of one kind, in ascending order, and the id of the sample that each belongs to."""

    code_m: NDArray[np.uint64]
    id_m: Ids

    @classmethod
    def of(cls, code_m: NDArray[np.uint64], id_m: Ids) -> "Marks":
        order = np.lexsort((id_m, code_m))
        return cls(code_m[order], id_m[order])

    def shared(self, other: "Marks") -> tuple[Ids, Ids]:
        """The ids of each pair of samples, one of these and one of the others, that share a mark."""
        low_m = np.searchsorted(other.code_m, self.code_m, side="left")
        count_m = np.searchsorted(other.code_m, self.code_m, side="right") - low_m
        first_m = np.cumsum(count_m) - count_m
        at_p = np.arange(count_m.sum()) + np.repeat(low_m - first_m, count_m)
        return np.repeat(self.id_m, count_m), other.id_m[at_p]


class MarkReader:
    """Reads the marks of samples from their files. A sample that cannot be read has none."""

    def __init__(self, source: Source, split: SplitConfig, workers: int) -> None:
        self._source, self._workers = source, workers
        self._meta, self._captions = MetaReader(split.sidecar), CaptionReader(split.captions)
        self._group = GroupReader(split.group, self._captions)
        media = frozenset(extension for name in kinds()[2:] for extension in FILES[name])
        self._wanted = media | self._captions.wanted | self._group.wanted | {"json"}

    def __call__(self, ids: Sequence[int]) -> Arrays:
        """For each kind the code of every mark, and its sample."""
        found: dict[str, list[tuple[int, int]]] = {kind: [] for kind in kinds()}
        chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
        with worker_pool("thread", self._workers, self._chunk) as (pool, take):
            for some in in_order(take, chunks, pool, 2 * self._workers):
                for kind, code, id in some:
                    found[kind].append((code, id))
        arrays: dict[str, NDArray[np.uint64] | Ids] = {}
        for kind, marks in found.items():
            arrays[kind] = np.array([code for code, _ in marks], dtype=np.uint64)
            arrays[f"{kind}.id"] = np.array([id for _, id in marks], dtype=np.int64)
        return arrays

    def _chunk(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        samples = zip(ids, self._source.read(ids, self._wanted), strict=True)
        return [(kind, code, id) for id, files in samples for kind, code in self._marks(id, files)]

    def _marks(self, id: int, files: Files | BadSample) -> Iterator[tuple[str, int]]:
        if isinstance(files, BadSample):
            return
        try:
            meta = self._meta(self._source.key(id), files)
            captions = self._captions(files, meta)
            group = self._group(files, meta, id)
        except BadSample:
            return
        if group >= 0:
            yield "group", group
        for caption in dict.fromkeys(caption.casefold() for caption in captions.all) if captions else ():
            yield "text", content_hash(caption.encode("utf-8", "surrogatepass"))
        for kind in kinds()[2:]:
            if extension := extension_of(kind, files):
                yield kind, content_hash(files[extension])


def marks_of(arrays: Arrays, kind: str) -> Marks:
    return Marks.of(arrays[kind], arrays[f"{kind}.id"])

"""A list applied to a source: how often each sample of the source appears in an epoch.

It takes a byte or two for each sample of the source, so 100 MB for 100 million samples, which all processes of a
machine share. It is computed once for each list and source, and kept in the cache.

Shape letters: N samples of the source.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from xxhash import xxh3_64_hexdigest

from tercet.data_pipelines.columns import read_column
from tercet.data_pipelines.config import SourceConfig
from tercet.data_pipelines.plans.count_list import Times, counted
from tercet.data_pipelines.plans.list_table import is_list_table
from tercet.data_pipelines.plans.open_list import open_list
from tercet.data_pipelines.shards.cache import Cache, cache_folder
from tercet.data_pipelines.source import Source
from tercet.whole_file import whole_file


class SampleList:
    """How often each sample of a source appears in an epoch. Pickled as the name of its file, if it has one."""

    def __init__(self, path: str, digest: str, times_N: Times, place: Path | None = None) -> None:
        self.path, self.digest, self.times_N, self._place = path, digest, times_N, place

    def __reduce__(self) -> tuple[Callable[..., "SampleList"], tuple[object, ...]]:
        if self._place is None:
            return SampleList, (self.path, self.digest, self.times_N)
        return _mapped, (self.path, self.digest, self._place)

    @property
    def kept(self) -> int:
        """How many samples appear at least once."""
        return int(np.count_nonzero(self.times_N))

    @property
    def epoch(self) -> int:
        """How many samples an epoch has."""
        return int(self.times_N.sum(dtype=np.int64))

    def to_json(self) -> dict[str, object]:
        return {"file": self.path, "digest": self.digest, "samples": self.kept, "epoch": self.epoch}

    def __str__(self) -> str:
        kept = f"{self.kept:,} of {len(self.times_N):,} samples"
        return f"{self.path} (digest {self.digest}): {kept}, {self.epoch:,} an epoch"


def list_of(split: SourceConfig, source: Source) -> SampleList | None:
    """The list that a recipe sets for a source, if any, or the samples that an episode drew."""
    if split.list is None:
        return None
    if Path(split.list).is_dir() and not is_list_table(split.list):
        return list_in_column(Path(split.list), source)
    return read_list(split.list, source, part=split.part is not None)


def list_in_column(folder: Path, source: Source) -> SampleList:
    """Each sample of a column once. The digest does not depend on how its files divide it."""
    id_n = np.sort(read_column(folder, source.fingerprint).id_n)
    times_N = np.zeros(len(source), dtype=np.uint8)
    times_N[id_n] = 1
    return SampleList(str(folder), xxh3_64_hexdigest(id_n.tobytes()), times_N)


def read_list(path: str, source: Source, *, part: bool = False) -> SampleList:
    """Applies the list in a file to a source. `part`: the source is a part, so the list may name other samples."""
    file = open_list(path, part=part)
    digest = file.digest()
    place = cache_folder() / "lists" / f"{digest}-{xxh3_64_hexdigest(source.fingerprint.encode())}.npy"
    with Cache().alone(place.name):
        if not place.exists():
            with whole_file(place) as draft, draft.open("wb") as counts:
                np.save(counts, counted(file, source, part=part), allow_pickle=False)
    return _mapped(path, digest, place)


def _mapped(path: str, digest: str, place: Path) -> SampleList:
    times_N: Times = np.load(place, mmap_mode="r", allow_pickle=False)
    return SampleList(path, digest, times_N, place)

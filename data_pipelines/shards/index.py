"""The places of all files of a WebDataset shard, in a few compact arrays.

A sample is a run of files that share a name up to the first dot of the last part, as in webdataset. Only files of known
extensions are read, and further pictures and sounds of a sample, such as `KEY.negative.jpg`; the others are counted.

Shape letters: N samples, M files of all samples, K bytes of all keys, F bytes of the names of further files.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.further_files import further_file
from tercet.data_pipelines.shards.tar import Member
from tercet.modality import EXTENSIONS, FILES

Integers = NDArray[np.unsignedinteger]  # of the smallest type that holds their values
Known = tuple[bytes, int, int, int]  # key, code, offset and size of a file that may be read
MOST_CODES = 256


@dataclass(frozen=True)
class ShardIndex:
    """The files of sample i are `first[i]` up to `first[i + 1]`; its key lies likewise in `key_K`."""

    key_K: NDArray[np.uint8]
    key_first: Integers  # [N + 1]
    first: Integers  # [N + 1]
    code_M: NDArray[np.uint8]  # place in `extensions`
    offset_M: Integers
    size_M: Integers
    checksum_M: NDArray[np.uint64] | None = None  # XXH3 of each payload
    further_F: NDArray[np.uint8] | None = None  # names of further files, one a line, such as `negative.jpg`

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def extensions(self) -> list[str]:
        """The files that a sample may have, by code: those with known extensions, then further pictures and sounds."""
        further = b"" if self.further_F is None else self.further_F.tobytes()
        return [*EXTENSIONS, *further.decode().splitlines()]

    def lists_the_files_of(self, other: "ShardIndex") -> bool:
        """The same keys and files at the same places, whatever the payloads are."""
        places = (name for name in vars(self) if name != "checksum_M")
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in places)

    def with_checksums(self, digest: Callable[[int, int], int]) -> "ShardIndex":
        """`digest` gives the XXH3 of the payload at an offset, of a size."""
        places = zip(self.offset_M.tolist(), self.size_M.tolist(), strict=True)
        return replace(self, checksum_M=np.array([digest(*place) for place in places], dtype=np.uint64))


@dataclass(frozen=True)
class Census:
    """The content of a shard in numbers, and what is unusual in it."""

    files: Mapping[str, int]  # by extension
    passed_over: Mapping[str, int]  # files that are never read, by extension
    bytes: int  # of all payloads that may be read
    repeated: int  # samples whose key another sample of the shard has too
    incomplete: int  # samples that lack a kind of file which most of the shard's samples have


def arrange(members: Iterable[Member]) -> tuple[ShardIndex, Census]:
    """Files in the order of the shard, gathered into samples."""
    passed_over: Counter[str] = Counter()
    names = list(EXTENSIONS)
    arranged = _Arranged()
    for key, code, offset, size in _known(members, names, passed_over):
        if code < len(EXTENSIONS):
            arranged.add(key, code, offset, size)
        else:
            arranged.add_further(key, code, offset, size)
    passed_over.update(names[code] for _, code, _, _ in arranged.alone())
    further = "\n".join(names[len(EXTENSIONS) :]).encode()
    keys, codes, places = arranged.keys, arranged.codes, arranged.places
    index = ShardIndex(
        key_K=np.frombuffer(b"".join(keys), dtype=np.uint8),
        key_first=_narrow(np.cumsum([0, *map(len, keys)])),
        first=_narrow([*arranged.first, len(codes)]),
        code_M=np.array(codes, dtype=np.uint8),
        offset_M=_narrow([offset for offset, _ in places]),
        size_M=_narrow([size for _, size in places]),
        further_F=np.frombuffer(further, dtype=np.uint8) if further else None,
    )
    return index, _census(index, passed_over, repeated=len(keys) - len(set(keys)))


class _Arranged:
    """The samples found so far. Further files make no sample by themselves; they may come before the others."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.first: list[int] = []
        self.codes: list[int] = []
        self.places: list[tuple[int, int]] = []
        self._held: set[int] = set()  # codes of the last sample
        self._early: list[Known] = []  # further files whose sample may follow
        self._alone: list[Known] = []

    def alone(self) -> list[Known]:
        """Further files that belong to no sample."""
        return [*self._alone, *self._early]

    def add(self, key: bytes, code: int, offset: int, size: int) -> None:
        if not self.keys or key != self.keys[-1] or code in self._held:  # a second file of a kind: another sample
            self.keys.append(key)
            self.first.append(len(self.codes))
            self._held = set()
        self._append(code, offset, size)
        early, self._early = self._early, []
        for file in early:
            self.add_further(*file)

    def add_further(self, key: bytes, code: int, offset: int, size: int) -> None:
        if not self.keys or key != self.keys[-1] or code in self._held:
            self._alone += [file for file in self._early if file[0] != key]
            self._early = [*(file for file in self._early if file[0] == key), (key, code, offset, size)]
        else:
            self._append(code, offset, size)

    def _append(self, code: int, offset: int, size: int) -> None:
        self._held.add(code)
        self.codes.append(code)
        self.places.append((offset, size))


def _known(members: Iterable[Member], names: list[str], passed_over: Counter[str]) -> Iterator[Known]:
    """The files that may be read. Adds those further files that it finds to `names`."""
    codes = {extension.encode(): code for code, extension in enumerate(names)}
    for name, offset, size in members:
        folder, slash, base = name.rpartition(b"/")
        stem, _, extension = base.partition(b".")
        plain = extension if extension in codes else extension.lower()
        if stem and plain not in codes and len(names) < MOST_CODES:
            text = plain.decode("utf-8", "replace")
            if further_file(text):
                codes[plain] = len(names)
                names.append(text)
        if stem and plain in codes:
            yield folder + slash + stem, codes[plain], offset, size
        else:
            passed_over[plain.decode("utf-8", "replace") if stem else base.decode("utf-8", "replace")] += 1


def _narrow(values: Sequence[int] | NDArray[np.int64]) -> Integers:
    values_N = np.asarray(values, dtype=np.uint64)
    narrow: Integers = values_N.astype(np.min_scalar_type(values_N.max(initial=0)))
    return narrow


def _census(index: ShardIndex, passed_over: Counter[str], repeated: int) -> Census:
    names = index.extensions
    count = np.bincount(index.code_M, minlength=len(names)).tolist()
    return Census(
        files={name: n for name, n in zip(names, count, strict=True) if n},
        passed_over=dict(passed_over),
        bytes=int(index.size_M.sum(dtype=np.uint64)),
        repeated=repeated,
        incomplete=_incomplete(index),
    )


def _incomplete(index: ShardIndex) -> int:
    if not len(index):
        return 0
    bits = np.zeros(len(index.extensions), dtype=np.int64)  # no sample lacks a further file
    bits[: len(EXTENSIONS)] = _bits()
    has_N = np.bitwise_or.reduceat(bits[index.code_M], index.first[:-1].astype(np.intp))
    usual = sum(bit for bit in set(bits.tolist()) if 2 * np.count_nonzero(has_N & bit) > len(index))
    return int(np.count_nonzero(has_N & usual != usual))


def kind_of(extension: str) -> str:
    """The modality of a file, or its extension."""
    return next((modality for modality, extensions in FILES.items() if extension in extensions), extension)


def kinds() -> list[str]:
    return sorted(set(map(kind_of, EXTENSIONS)))


def _bits() -> NDArray[np.int64]:
    """A bit for each kind of file, by code."""
    known = kinds()
    return np.array([1 << known.index(kind_of(extension)) for extension in EXTENSIONS], dtype=np.int64)

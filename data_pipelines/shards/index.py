"""The places of all files of a WebDataset shard, in a few compact arrays.

A sample is a run of files that share a name up to the first dot of the last part, as in webdataset. Only files of known
extensions are read; the others are counted.

Shape letters: N samples, M files of all samples, K bytes of all keys.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.shards.tar import Member
from tercet.modality import EXTENSIONS, FILES

Integers = NDArray[np.unsignedinteger]  # of the smallest type that holds their values


@dataclass(frozen=True)
class ShardIndex:
    """The files of sample i are `first[i]` up to `first[i + 1]`; its key lies likewise in `key_K`."""

    key_K: NDArray[np.uint8]
    key_first: Integers  # [N + 1]
    first: Integers  # [N + 1]
    code_M: NDArray[np.uint8]  # place in EXTENSIONS
    offset_M: Integers
    size_M: Integers
    checksum_M: NDArray[np.uint64] | None = None  # XXH3 of each payload

    def __len__(self) -> int:
        return len(self.first) - 1

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
    keys: list[bytes] = []
    first: list[int] = []
    codes: list[int] = []
    places: list[tuple[int, int]] = []
    codes_of_sample: set[int] = set()
    for key, code, offset, size in _known(members, passed_over):
        if not keys or key != keys[-1] or code in codes_of_sample:  # a second file of a kind belongs to another sample
            keys.append(key)
            first.append(len(codes))
            codes_of_sample = set()
        codes_of_sample.add(code)
        codes.append(code)
        places.append((offset, size))
    index = ShardIndex(
        key_K=np.frombuffer(b"".join(keys), dtype=np.uint8),
        key_first=_narrow(np.cumsum([0, *map(len, keys)])),
        first=_narrow([*first, len(codes)]),
        code_M=np.array(codes, dtype=np.uint8),
        offset_M=_narrow([offset for offset, _ in places]),
        size_M=_narrow([size for _, size in places]),
    )
    return index, _census(index, passed_over, repeated=len(keys) - len(set(keys)))


def _known(members: Iterable[Member], passed_over: Counter[str]) -> Iterator[tuple[bytes, int, int, int]]:
    codes = {extension.encode(): code for code, extension in enumerate(EXTENSIONS)}
    for name, offset, size in members:
        folder, slash, base = name.rpartition(b"/")
        stem, _, extension = base.partition(b".")
        code = codes.get(extension) if extension in codes else codes.get(extension.lower())
        if stem and code is not None:
            yield folder + slash + stem, code, offset, size
        else:
            passed_over[extension.lower().decode("utf-8", "replace") if stem else base.decode("utf-8", "replace")] += 1


def _narrow(values: Sequence[int] | NDArray[np.int64]) -> Integers:
    values_N = np.asarray(values, dtype=np.uint64)
    narrow: Integers = values_N.astype(np.min_scalar_type(values_N.max(initial=0)))
    return narrow


def _census(index: ShardIndex, passed_over: Counter[str], repeated: int) -> Census:
    count = np.bincount(index.code_M, minlength=len(EXTENSIONS)).tolist()
    return Census(
        files={extension: n for extension, n in zip(EXTENSIONS, count, strict=True) if n},
        passed_over=dict(passed_over),
        bytes=int(index.size_M.sum(dtype=np.uint64)),
        repeated=repeated,
        incomplete=_incomplete(index),
    )


def _incomplete(index: ShardIndex) -> int:
    if not len(index):
        return 0
    bits = _bits()
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

"""What lies where in a set of WebDataset shards: found by one scan of the headers, kept in a few compact arrays.

A sample is a run of files that share a name up to the first dot of the last part, as in webdataset. Its id is its place
in the index, dense and stable as long as the shards are.

Shape letters: N samples, M files of all samples.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.shards.tar import members
from tercet.errors import UserError

EXTENSIONS = ("png", "jpg", "jpeg", "webp", "flac", "wav", "ogg", "mp3", "opus", "txt", "json")
CODES = {extension.encode(): code for code, extension in enumerate(EXTENSIONS)}
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")


def find_shards(spec: str | Sequence[str]) -> list[Path]:
    """The shards that a folder, a pattern as `shards/{000..099}.tar` or `shards/*.tar`, or a list of them names."""
    specs = [spec] if isinstance(spec, str) else spec
    return list(dict.fromkeys(chain.from_iterable(_matches(one) for one in specs)))


def _matches(spec: str) -> list[Path]:
    if Path(spec).is_dir():
        found = sorted(Path(spec).glob("*.tar"))
        if not found:
            raise UserError(f"the folder {spec} holds no *.tar shards; name the folder that does")
        return found
    paths = list(chain.from_iterable(sorted(glob(name)) or [name] for name in _unbraced(spec)))
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        others = f" (nor {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"there are no shards at {missing[0]}{others}; "
            "name a folder of .tar files, a pattern as `shards/{000..099}.tar`, or a list of them"
        )
    return [Path(path) for path in paths]


def _unbraced(spec: str) -> list[str]:
    """`a{08..10}.tar` and `{a,b}.tar`, written out."""
    braces = BRACES.search(spec)
    if not braces:
        return [spec]
    first, last, names = braces.groups()
    words = names.split(",") if names else [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    return [tail for word in words for tail in _unbraced(spec[: braces.start()] + word + spec[braces.end() :])]


@dataclass(frozen=True)
class Index:
    """Where every file of every sample lies. The files of sample i are `first[i]` up to `first[i + 1]`."""

    shards: tuple[Path, ...]
    shard_N: NDArray[np.int32]
    key_N: NDArray[np.bytes_]
    first: NDArray[np.int64]  # [N + 1]
    code_M: NDArray[np.uint8]  # place in EXTENSIONS
    offset_M: NDArray[np.int64]
    size_M: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.shard_N)

    def shard(self, id: int) -> Path:
        return self.shards[int(self.shard_N[id])]

    def key(self, id: int) -> str:
        return bytes(self.key_N[id]).decode("utf-8", "surrogateescape")

    def files(self, id: int) -> dict[str, tuple[int, int]]:
        """Offset and size of each of the sample's files, by extension."""
        rows = slice(self.first[id], self.first[id + 1])
        places = zip(self.offset_M[rows].tolist(), self.size_M[rows].tolist(), strict=True)
        return dict(zip((EXTENSIONS[code] for code in self.code_M[rows]), places, strict=True))


def build_index(shards: Sequence[Path]) -> Index:
    """Scan the shards and join what they hold."""
    parts = [scan(path) for path in shards]
    counts = np.concatenate([np.diff(part.first) for part in parts])
    index = Index(
        shards=tuple(shards),
        shard_N=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts]),
        key_N=np.concatenate([part.key_N for part in parts]),
        first=np.concatenate([[0], np.cumsum(counts)]),
        code_M=np.concatenate([part.code_M for part in parts]),
        offset_M=np.concatenate([part.offset_M for part in parts]),
        size_M=np.concatenate([part.size_M for part in parts]),
    )
    if not len(index):
        raise UserError(f"{shards[0]} and the shards beside it hold no samples; known files: {', '.join(EXTENSIONS)}")
    return index


def scan(path: Path) -> Index:
    """The index of one shard. Files of unknown extensions are passed over."""
    keys: list[bytes] = []
    first: list[int] = []
    codes: list[int] = []
    places: list[tuple[int, int]] = []
    begun: set[int] = set()
    for key, code, offset, size in _known(path):
        if not keys or key != keys[-1] or code in begun:  # a second file of a kind can only be another sample's
            keys.append(key)
            first.append(len(codes))
            begun = set()
        begun.add(code)
        codes.append(code)
        places.append((offset, size))
    offset_size = np.array(places, dtype=np.int64).reshape(-1, 2)
    return Index(
        shards=(path,),
        shard_N=np.zeros(len(keys), dtype=np.int32),
        key_N=np.array(keys, dtype=np.bytes_),
        first=np.array([*first, len(codes)], dtype=np.int64),
        code_M=np.array(codes, dtype=np.uint8),
        offset_M=offset_size[:, 0].copy(),
        size_M=offset_size[:, 1].copy(),
    )


def _known(path: Path) -> Iterator[tuple[bytes, int, int, int]]:
    for name, offset, size in members(path):
        folder, slash, base = name.rpartition(b"/")
        stem, _, extension = base.partition(b".")
        code = CODES.get(extension.lower())
        if stem and code is not None:
            yield folder + slash + stem, code, offset, size

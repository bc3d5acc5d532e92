"""Results on disk in pieces of a range of ids. A piece is written whole or not at all, so an interrupted call resumes.

FOLDER/piece_00000000.safetensors   what was computed for the first ids, and so on
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from tercet.whole_file import write_whole

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Pieces:
    """The pieces of `samples` ids, `size` in each. The name of the folder is a digest of what determines them."""

    folder: Path
    samples: int
    size: int

    def __len__(self) -> int:
        return -(-self.samples // self.size)

    def __iter__(self) -> Iterator[Arrays]:
        return map(self.read, range(len(self)))

    def ids(self, piece: int) -> range:
        return range(piece * self.size, min((piece + 1) * self.size, self.samples))

    def missing(self) -> list[int]:
        return [piece for piece in range(len(self)) if not self._path(piece).is_file()]

    def read(self, piece: int) -> Arrays:
        arrays: Arrays = load_file(self._path(piece))
        return arrays

    def write(self, piece: int, arrays: Arrays) -> None:
        write_whole(self._path(piece), save(dict(arrays)))

    def _path(self, piece: int) -> Path:
        return self.folder / f"piece_{piece * self.size:08d}.safetensors"

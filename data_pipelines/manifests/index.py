"""The rows of a manifest in a few arrays that all processes share: one file, mapped into memory.

Shape letters: N rows.
"""

import json
import mmap
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}

Arrays = Mapping[str, NDArray[Any]]


@dataclass
class Strings:
    """Strings in one buffer, with the end of each."""

    data: bytearray = field(default_factory=bytearray)
    ends: "array[int]" = field(default_factory=lambda: array("Q", [0]))

    def append(self, string: str) -> None:
        self.data += string.encode()
        self.ends.append(len(self.data))

    def fill(self, count: int) -> None:
        """Appends empty strings until there are `count`."""
        self.ends.extend([len(self.data)] * (count + 1 - len(self.ends)))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        return {name: np.frombuffer(bytes(self.data), np.uint8), f"{name}.ends": narrow(self.ends)}


class ManifestIndex:
    """Rows as arrays: strings by name, and numbers by name."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self._bytes = {name: array.data for name, array in arrays.items()}

    def __len__(self) -> int:
        return len(self.arrays["row"])

    @cached_property
    def kinds(self) -> list[str]:
        """The kinds of media that the rows have."""
        return [name.removesuffix(".size") for name in self.arrays if name.endswith(".size")]

    def bytes(self, name: str, row: int) -> bytes:
        ends = self._bytes[f"{name}.ends"]
        return bytes(self._bytes[name][ends[row] : ends[row + 1]])

    def text(self, name: str, row: int) -> str:
        return self.bytes(name, row).decode()

    def has(self, name: str, row: int) -> bool:
        ends = self._bytes[f"{name}.ends"]
        return bool(ends[row + 1] > ends[row])

    def number(self, name: str, row: int) -> int:
        return int(self._bytes[name][row])


def narrow(values: Iterable[int]) -> NDArray[np.unsignedinteger]:
    """The smallest unsigned type that holds the largest value."""
    values_N = np.array(values, dtype=np.uint64)
    narrowed: NDArray[np.unsignedinteger] = values_N.astype(np.min_scalar_type(values_N.max(initial=0)))
    return narrowed


def mapped(place: Path) -> Arrays:
    """The arrays of a safetensors file; only the parts that are used are read from the disk."""
    with place.open("rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(view[:8], "little")
    tensors = {name: one for name, one in json.loads(view[8:start]).items() if name != "__metadata__"}
    return {name: _mapped(view, start, one) for name, one in tensors.items()}


def _mapped(view: mmap.mmap, start: int, tensor: Mapping[str, Any]) -> NDArray[Any]:
    dtype, (count,) = np.dtype(DTYPES[tensor["dtype"]]), tensor["shape"]
    if not count:
        return np.empty(0, dtype)
    return np.frombuffer(view, dtype, count, start + tensor["data_offsets"][0])

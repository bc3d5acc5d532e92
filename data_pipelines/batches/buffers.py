"""Memory for batches, which threads or processes fill row by row.

A buffer holds one rank's share of a batch. For worker processes it is an anonymous file in memory (memfd): it leaves
nothing behind, and the limit of /dev/shm does not apply. A buffer is used again once nothing refers to its last batch.
"""

import mmap
import os
import weakref
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.errors import UserError

ALIGNMENT = 64
Arrays = dict[str, NDArray[Any]]
BufferColumn = tuple[str, str, tuple[int, ...]]  # name, dtype, and shape of one item


@dataclass(frozen=True)
class BufferLayout:
    """The arrays of a buffer: `columns`, each with `rows` items."""

    rows: int
    columns: tuple[BufferColumn, ...]

    @property
    def size(self) -> int:
        return sum(self._span(dtype, shape) for _, dtype, shape in self.columns)

    def arrays(self, memory: NDArray[np.uint8]) -> Arrays:
        arrays: Arrays = {}
        start = 0
        for name, dtype, shape in self.columns:
            count = self.rows * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            arrays[name] = memory[start : start + count].view(dtype).reshape(self.rows, *shape)
            start += self._span(dtype, shape)
        return arrays

    def allocate(self) -> Arrays:
        """New arrays in the memory of this process."""
        return self.arrays(np.zeros(self.size, dtype=np.uint8))

    def _span(self, dtype: str, shape: tuple[int, ...]) -> int:
        count = self.rows * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return -(-count // ALIGNMENT) * ALIGNMENT


class Buffer:
    """Memory for one batch. Other processes open it at `path`."""

    def __init__(self, layout: BufferLayout, shared: bool) -> None:
        self.layout = layout
        if shared:
            descriptor = _memory_file()
            os.ftruncate(descriptor, layout.size)
            self.path = f"/proc/{os.getpid()}/fd/{descriptor}"
            self._memory = mmap.mmap(descriptor, layout.size)
            weakref.finalize(self, os.close, descriptor)
        else:
            self.path = ""
            self._memory = mmap.mmap(-1, layout.size)
        self.arrays = layout.arrays(np.frombuffer(self._memory, dtype=np.uint8))


def _memory_file() -> int:
    if not hasattr(os, "memfd_create"):
        raise UserError("data.worker=process needs memfd, which only Linux has. Set data.worker=thread")
    return os.memfd_create("batch")


@lru_cache(maxsize=64)
def open_arrays(path: str, layout: BufferLayout) -> Arrays:
    """The arrays of a buffer that another process created."""
    with open(path, "r+b") as file:
        return layout.arrays(np.frombuffer(mmap.mmap(file.fileno(), layout.size), dtype=np.uint8))


class BufferPool:
    """Creates a buffer only if all others are in use."""

    def __init__(self, layout: BufferLayout, shared: bool) -> None:
        self.layout, self._shared = layout, shared
        self._free: list[Buffer] = []

    def take(self) -> Buffer:
        return self._free.pop() if self._free else Buffer(self.layout, self._shared)

    def hand_out(self, buffer: Buffer) -> Arrays:
        """The arrays of the buffer. It is free again when no array, and no tensor on one, exists any more."""
        memory = np.frombuffer(buffer._memory, dtype=np.uint8)
        weakref.finalize(memory, self._free.append, buffer).atexit = False
        return self.layout.arrays(memory)

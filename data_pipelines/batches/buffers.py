"""Memory in which a batch is put together, row by row, by any number of threads or processes.

A slot holds one rank's share of a batch. Where processes write into it, it is a file that exists in memory alone
(memfd), so that nothing is left behind and no limit of /dev/shm is met. A slot is used again once nothing refers to the
batch that was handed out in it.
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
Column = tuple[str, str, tuple[int, ...]]  # an array's name, its type, and the shape of an item's part


@dataclass(frozen=True)
class BufferLayout:
    """Which arrays a slot holds: name, type and shape of a row, for so many rows."""

    rows: int
    columns: tuple[Column, ...]

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
        """In this process's own memory."""
        return self.arrays(np.zeros(self.size, dtype=np.uint8))

    def _span(self, dtype: str, shape: tuple[int, ...]) -> int:
        count = self.rows * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return -(-count // ALIGNMENT) * ALIGNMENT


class Buffer:
    """One piece of memory. `path` is where other processes find it."""

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
        raise UserError("only Linux has memory that worker processes find by a path: set data.worker to thread")
    return os.memfd_create("batch")


@lru_cache(maxsize=64)
def attached(path: str, layout: BufferLayout) -> Arrays:
    """A slot of another process, as this one sees it."""
    with open(path, "r+b") as file:
        return layout.arrays(np.frombuffer(mmap.mmap(file.fileno(), layout.size), dtype=np.uint8))


class BufferPool:
    """As many slots as are in use at once, and no more."""

    def __init__(self, layout: BufferLayout, shared: bool) -> None:
        self.layout, self._shared = layout, shared
        self._free: list[Buffer] = []

    def take(self) -> Buffer:
        return self._free.pop() if self._free else Buffer(self.layout, self._shared)

    def hand_out(self, slot: Buffer) -> Arrays:
        """The slot's arrays. When none of them, nor any tensor over them, is left, the slot is free again."""
        memory = np.frombuffer(slot._memory, dtype=np.uint8)
        weakref.finalize(memory, self._free.append, slot).atexit = False
        return self.layout.arrays(memory)

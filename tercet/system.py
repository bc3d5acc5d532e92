"""What not every system has, and what stands in for it. Training wants Linux; the rest runs where Python does."""

import os
from typing import Any

try:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
except ImportError:  # Windows: whoever comes second does the work twice, and files are put in place whole
    LOCK_EX, LOCK_NB, LOCK_UN = 2, 4, 8  # type: ignore[misc]

    def flock(fd: Any, operation: int, /) -> None:  # type: ignore[misc]
        pass


__all__ = ["LOCK_EX", "LOCK_NB", "LOCK_UN", "cores", "flock", "has_shards"]


def cores() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def has_shards() -> bool:
    """Whether samples can be read from the middle of a file that several threads have open."""
    return hasattr(os, "pread")

"""What not every system has, and what stands in for it. Training wants Linux; the rest runs where Python does."""

import os
from threading import Lock
from typing import Any

BINARY = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # Windows would read other line ends than there are

try:
    from os import pread
except ImportError:  # Windows: one thread reads after another
    _turn = Lock()

    def pread(fd: int, length: int, offset: int, /) -> bytes:
        with _turn:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, length)


try:
    import resource
except ImportError:  # Windows: far more files may be open than shards ever are
    resource = None  # type: ignore[assignment]

try:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
except ImportError:  # Windows: whoever comes second does the work twice, and files are put in place whole
    LOCK_EX, LOCK_NB, LOCK_UN = 2, 4, 8  # type: ignore[misc]

    def flock(fd: Any, operation: int, /) -> None:  # type: ignore[misc]
        pass


__all__ = ["BINARY", "LOCK_EX", "LOCK_NB", "LOCK_UN", "cores", "descriptors", "flock", "pread", "resource"]


def cores() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def descriptors(wanted: int) -> int:
    """How many files may be open at once, the limit being raised as far as is wanted and allowed."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed

"""System calls that some systems lack, with substitutes. Training needs Linux; the rest runs wherever Python runs."""

import os
from threading import Lock
from typing import Any

BINARY = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # else Windows translates line ends

try:
    from os import pread
except ImportError:  # Windows: threads take turns
    _turn = Lock()

    def pread(fd: int, length: int, offset: int, /) -> bytes:
        with _turn:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, length)


try:
    import resource
except ImportError:  # Windows: its limit is far above any number of shards
    resource = None  # type: ignore[assignment]

try:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
except ImportError:  # Windows: two processes may do the same work; files are still replaced as a whole
    LOCK_EX, LOCK_NB, LOCK_UN = 2, 4, 8  # type: ignore[misc]

    def flock(fd: Any, operation: int, /) -> None:  # type: ignore[misc]
        pass


__all__ = ["BINARY", "LOCK_EX", "LOCK_NB", "LOCK_UN", "cores", "descriptors", "flock", "pread", "resource"]


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def descriptors(wanted: int) -> int:
    """How many files may be open at once, after raising the limit to `wanted` as far as the system allows."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed

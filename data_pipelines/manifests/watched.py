"""Whether a table or a folder has changed since it was indexed, judged without reading it."""

import os
from pathlib import Path
from typing import TypeAlias

Watched: TypeAlias = dict[str, list[int]]  # by path


def seen(path: str | Path) -> list[int]:
    """The time of the last change, and the size of a file; empty if it does not exist.

    A folder changes when files are added or removed. The files themselves are read anew each time.
    """
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_mtime_ns, 0 if os.path.isdir(path) else status.st_size]


def watch(path: Path) -> Watched:
    """Call it before reading, so that a change while reading counts as a change."""
    return {os.path.abspath(path): seen(path)}

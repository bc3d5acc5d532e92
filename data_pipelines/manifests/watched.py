"""Whether a table or a folder is still the one that was gone through, told without reading it."""

import os
from pathlib import Path
from typing import TypeAlias

Watched: TypeAlias = dict[str, list[int]]  # by path


def seen(path: str | Path) -> list[int]:
    """When it was last changed, and the size of a file; nothing where there is none.

    A folder changes when files come to it or go. What they hold is read anew at each sight.
    """
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_mtime_ns, 0 if os.path.isdir(path) else status.st_size]


def watch(path: Path) -> Watched:
    """To be called before it is read: what changes meanwhile is then a change."""
    return {os.path.abspath(path): seen(path)}

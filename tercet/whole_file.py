"""Files that are written whole or not at all, even if the process is killed or the machine stops."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft beside the file, which gets the name of the file once it is on disk. Readers never see a draft."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")  # processes of two machines may have one number
    try:
        yield draft
        sync(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, data: str | bytes) -> None:
    with whole_file(path) as draft:
        # Names of files need not be UTF-8.
        draft.write_bytes(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sync(path: Path) -> None:
    """Waits until a file, or the names of the files in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_empty(folder: Path) -> bool:
    """Whether a folder has nothing but hidden files, such as drafts, or does not exist."""
    return not folder.exists() or (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir()))


def remove_drafts(folder: Path) -> None:
    """Deletes the drafts that killed processes have left. Call it while no process writes into the folder."""
    for draft in folder.glob(f".*.{'[0-9a-f]' * 32}"):
        draft.unlink(missing_ok=True)

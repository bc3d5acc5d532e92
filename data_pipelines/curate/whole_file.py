"""Files that are written whole or not at all, even if the process is killed or the machine stops."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft beside the file, which gets the name of the file once it is on disk. Readers never see a draft."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")  # processes of two machines may have one number
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def remove_drafts(folder: Path) -> None:
    """Deletes the drafts that killed processes have left. Call it once no process writes into the folder."""
    for draft in folder.glob(".*.parquet.*"):
        draft.unlink(missing_ok=True)

"""Checks where packing writes: outside of its source, into a folder of its own, one process at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tercet.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)


def check_place(source: Path, out: Path) -> None:
    """Shards within the folder that is packed would be files of the source when packing goes on."""
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} is inside {source}, which would then be packed, too; choose a folder outside of it")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """The folder is made where it is not there, and two that write into it would overwrite each other's shards."""
    folder = _locked(out)
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(f"{out}: {error.strerror}; free some space and run the same command, which resumes") from error
    finally:
        os.close(folder)


def _locked(out: Path) -> int:
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another process packs into {out}; wait for it, or choose another folder") from error
    except OSError as error:
        raise UserError(f"{out} cannot be used for the shards: {error.strerror}; choose another folder") from error
    return folder

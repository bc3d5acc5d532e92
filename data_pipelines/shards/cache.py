"""Copies of remote shards on this machine: one process fetches a shard while others wait; the oldest are deleted.

The shard behind a URL must not change. Readers can go on reading a copy that is deleted while it is open.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.shards.transport import download
from tercet.errors import UserError
from tercet.system import LOCK_EX, LOCK_NB, LOCK_UN, flock

LIMIT = 100 * 10**9
FRESH = 60.0  # seconds after its last use in which a copy is not deleted, so that readers can open it
UNFINISHED = ".part"


def cache_folder() -> Path:
    return Path(os.environ.get("TERCET_CACHE") or Path.home() / ".cache" / "tercet")


class Cache:
    """Remote shards as local files, in a folder that stays below a limit.

    Copies that were used in the last minute are kept even above the limit.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT, patience: Patience | None = None) -> None:
        self.folder = (folder or cache_folder()) / "shards"
        self.limit_bytes = limit_bytes
        self.patience = patience or Patience()
        self._locks = self.folder / ".locks"

    def fetch(self, url: str) -> Path:
        """The path of a complete local copy of the shard."""
        path = self.place(url)
        with self.alone(path.name):
            if not path.exists():
                self._download(url, path)
            os.utime(path)  # its last use
        return path

    @contextmanager
    def alone(self, name: str, how: int = 0) -> Iterator[None]:
        """A lock over all threads and processes that use the folder."""
        descriptor = self._lock(name)
        try:
            flock(descriptor, LOCK_EX | how)
            yield
        finally:
            flock(descriptor, LOCK_UN)  # closing it would not unlock it for children that were forked meanwhile
            os.close(descriptor)

    def forget(self, url: str) -> None:
        """Deletes the copy, so that the next use fetches it again."""
        self.place(url).unlink(missing_ok=True)

    def place(self, url: str) -> Path:
        """The path of its copy, fetched or not. It is a hash, so that a URL cannot choose a path."""
        digest = blake2b(url.encode(), digest_size=12).hexdigest()
        base = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(urlsplit(url).path).stem[-64:])
        return self.folder / f"{digest}-{base}.tar"

    def _lock(self, name: str) -> int:
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            return os.open(self._locks / name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"the cache {self.folder} cannot be written ({error.strerror}); set TERCET_CACHE to another folder"
            ) from None

    def _download(self, url: str, path: Path) -> None:
        part = path.with_name(path.name + UNFINISHED)
        try:
            download(url, part, self.patience, self.limit_bytes)
            with part.open("rb") as whole:
                os.fsync(whole.fileno())
            self._shrink()
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def _shrink(self) -> None:
        """Deletes the least recently used copies until the folder is below the limit."""
        with os.scandir(self.folder) as entries:
            held = sorted((status.st_mtime, status.st_size, name) for name, status in _statuses(entries))
        excess = sum(size for _, size, _ in held) - self.limit_bytes
        for used, size, name in held:
            if excess <= 0 or used > time.time() - FRESH:
                return
            if self._let_go(self.folder / name, used):
                excess -= size

    def _let_go(self, path: Path, used: float) -> bool:
        """Deletes a copy unless another process uses it or has used it since."""
        with suppress(BlockingIOError, FileNotFoundError), self.alone(path.name.removesuffix(UNFINISHED), LOCK_NB):
            if path.stat().st_mtime == used:
                path.unlink()
                return True
        return False


def _statuses(entries: "Iterable[os.DirEntry[str]]") -> Iterator[tuple[str, os.stat_result]]:
    """The status of each file; files that another process has just deleted are left out."""
    for entry in entries:
        with suppress(FileNotFoundError):
            if entry.is_file(follow_symlinks=False):
                yield entry.name, entry.stat()

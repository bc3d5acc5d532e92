"""Remote files that a manifest names: fetched when they are read, and kept in the cache below a limit.

There may be many small files, so they are spread over folders by a hash of their URLs, and each folder has its share of
the limit. The file behind a URL must not change.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.manifests.medium import read_file
from tercet.data_pipelines.shards.address import SCHEMES
from tercet.data_pipelines.shards.cache import LIMIT, cache_folder
from tercet.data_pipelines.shards.patience import Patience, Unreachable, tried
from tercet.data_pipelines.shards.transport import opened
from tercet.data_pipelines.source import LARGEST_FILE
from tercet.whole_file import write_whole

FOLDERS = 256
PART = 2**20
AT_ONCE = 16  # requests: one after another would wait most of the time
PATIENCE = Patience(tries=3)


@dataclass(frozen=True)
class Copies:
    folder: Path
    limit_bytes: int = LIMIT
    patience: Patience = PATIENCE

    def read(self, kind: str, url: str) -> bytes:
        place = self._place(url)
        if not place.exists():
            self._fetch(kind, url, place)
        with suppress(OSError):
            os.utime(place)  # its last use
        return read_file(kind, place)

    def fetch(self, kind_of_url: Iterable[tuple[str, str]]) -> None:
        """Fetches all of them at once. A file that cannot be fetched raises its error when it is read."""
        missing = [(kind, url) for kind, url in kind_of_url if not self._place(url).exists()]
        if len(missing) > 1:
            with ThreadPoolExecutor(min(AT_ONCE, len(missing))) as threads:
                list(threads.map(lambda one: self._tried(*one), missing))

    def _tried(self, kind: str, url: str) -> None:
        with suppress(BadSample):
            self._fetch(kind, url, self._place(url))

    def _fetch(self, kind: str, url: str, place: Path) -> None:
        if url.partition("://")[0] not in SCHEMES:
            raise BadSample(f"{kind}: a URL of no known kind")
        try:
            data = tried(url, lambda: _whole(url, self.patience), self.patience)
        except Unreachable as error:
            raise BadSample(f"{kind}: cannot be fetched") from error
        if len(data) > LARGEST_FILE:
            raise BadSample(f"{kind}: over the size cap")
        self._keep(place, data)

    def _keep(self, place: Path, data: bytes) -> None:
        write_whole(place, data)
        self._shrink(place.parent)

    def _shrink(self, folder: Path) -> None:
        """Deletes the least recently used files of a folder until it is below its share of the limit."""
        held = sorted(_states(folder))
        excess = sum(size for _, size, _ in held) - self.limit_bytes // FOLDERS
        for _, size, path in held[:-1]:  # never the newest
            if excess <= 0:
                return
            with suppress(FileNotFoundError):
                path.unlink()
            excess -= size

    def _place(self, url: str) -> Path:
        digest = blake2b(url.encode(), digest_size=16).hexdigest()
        return self.folder / digest[:2] / digest


def usual_copies(limit_bytes: int = LIMIT) -> Copies:
    return Copies(cache_folder() / "files", limit_bytes)


def _whole(url: str, patience: Patience) -> bytes:
    """Reads to the end, or to just above the cap: a single read returns only what has arrived."""
    data = bytearray()
    with opened(url, patience) as file:
        while len(data) <= LARGEST_FILE and (arrived := file.read(PART)):
            data += arrived
    return bytes(data)


def _states(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Last use and size of each file; files that another process deletes meanwhile are left out."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            state = path.stat()
            yield state.st_mtime, state.st_size, path

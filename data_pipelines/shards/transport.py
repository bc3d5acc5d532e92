"""Bytes of https, s3 and gs URLs through fsspec. Nothing goes through a shell."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import wait
from errno import EDQUOT, ENOSPC
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tercet.data_pipelines.shards.address import redacted
from tercet.data_pipelines.shards.patience import Patience, tried
from tercet.errors import UserError


class CutShort(Exception):
    """Fewer bytes arrived than were announced."""


def read(url: str, patience: Patience) -> bytes:
    """All of a small file."""
    system = _system(url, patience)
    return tried(url, partial(_watched, system, system._cat_file, url, patience), patience)  # type: ignore[no-any-return]


def listed(url: str, patience: Patience) -> list[str]:
    """The URLs in a folder, or those that match a pattern with `*`."""
    system = _system(url, patience)
    find = system._glob if "*" in url else partial(system._ls, detail=False)
    found = tried(url, partial(_watched, system, find, url, patience), patience)
    return [system.unstrip_protocol(name) for name in found]


def download(url: str, to: Path, patience: Patience, limit_bytes: int) -> None:
    """Downloads the whole file behind a URL; each try begins from the start."""
    system = _system(url, patience)

    def attempt() -> None:
        to.unlink(missing_ok=True)
        progress = _progress(url, limit_bytes)
        get = partial(system._get_file, lpath=str(to), callback=progress)
        try:
            _watched(system, get, url, patience, lambda: progress.value)
        except OSError as error:
            if error.errno in (ENOSPC, EDQUOT):
                raise UserError(f"the disk of {to.parent} is full; free some space, or lower data.cache_gb") from None
            raise
        if progress.size is not None and to.stat().st_size != progress.size:
            raise CutShort(f"it ended after {to.stat().st_size} of {progress.size} bytes")

    tried(url, attempt, patience)


def opened(url: str, patience: Patience) -> Any:
    """The file behind a URL, for reading from front to back. The caller must handle a connection that breaks."""
    # over HTTP, one request without a range, because not every server supports ranges, and no request for the size
    whole = {"block_size": 0, "size": 1} if url.startswith("http") else {}
    return _system(url, patience).open(url, "rb", **whole)


def _system(url: str, patience: Patience) -> Any:
    return _connected(url.partition("://")[0], patience, os.getpid())


@lru_cache
def _connected(scheme: str, patience: Patience, process: int) -> Any:
    """One file system for all threads of a process. A forked process needs its own: the loop stays with the parent."""
    try:
        import fsspec

        return fsspec.filesystem(scheme, **(_web(patience) if scheme in ("http", "https") else {}))
    except ImportError as error:
        raise UserError(
            f"shards behind {scheme}:// need packages that are not installed ({error}); pip install 'tercet[remote]'"
        ) from None


def _web(patience: Patience) -> dict[str, Any]:
    import aiohttp

    quiet = aiohttp.ClientTimeout(total=None, sock_connect=patience.stall, sock_read=patience.stall)
    # sizes are those of the bytes sent, so they must not be compressed
    return {"client_kwargs": {"timeout": quiet, "trust_env": True}, "headers": {"Accept-Encoding": "identity"}}


def _progress(url: str, limit_bytes: int) -> Any:
    """The progress of a download, as fsspec reports it. Stops a download that exceeds the limit."""
    from fsspec.callbacks import Callback

    class DownloadLimit(Callback):  # type: ignore[misc]
        def call(self, *_: object, **__: object) -> None:
            if max(self.size or 0, self.value) > limit_bytes:
                raise UserError(
                    f"{redacted(url)} is larger than the {limit_bytes / 1e6:.1f} MB of the whole cache; "
                    "raise data.cache_gb, or write smaller shards"
                )

    return DownloadLimit()


def _watched(
    system: Any,
    work: Callable[[str], Any],
    url: str,
    patience: Patience,
    seen: Callable[[], int] = lambda: 0,
) -> Any:
    """The result of a coroutine of fsspec, cancelled after a time without progress. Not every store has a time-out."""
    future = asyncio.run_coroutine_threadsafe(work(system._strip_protocol(url)), system.loop)
    before = -1
    while not wait([future], patience.stall).done:
        if seen() == before:
            future.cancel()
            raise TimeoutError
        before = seen()
    return future.result()

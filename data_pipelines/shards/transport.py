"""Bytes of https, s3 and gs URLs through fsspec: patient with a network that stumbles, never for ever, and discreet.

Nothing goes through a shell. What a message says of a URL leaves out user names, tokens and query strings.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tercet.errors import UserError

SCHEMES = ("https", "http", "s3", "gs")
SCHEME = re.compile(r"([A-Za-z][\w+.:-]*)://|(pipe|file|data|ssh):")
URL = re.compile(r"\w+://[^\s'\"]+")
PASSING = (408, 425, 429)  # the refusals that another try may turn

Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How often something is tried, and how many seconds it may stand still."""

    tries: int = 5
    stall: float = 30.0
    pause: float = 1.0  # before the second try; doubled before each one after

    def pauses(self) -> Iterator[float]:
        return (self.pause * 2**step for step in range(self.tries - 1))


class Unreachable(UserError):
    """A URL that gave nothing, in all its tries."""


class Refused(Unreachable):
    """A URL that there is not, or that is closed to us: another try would not help."""


class CutShort(Exception):
    """Fewer bytes came than were announced."""


def is_url(place: str) -> bool:
    """Whether a place is behind a network; what is neither a path nor an address of a known kind is refused."""
    scheme = SCHEME.match(place)
    if not scheme:
        return False
    name = scheme[1] or scheme[2]
    if name not in SCHEMES:
        raise UserError(
            f"shards are not read through `{name}:`, as {redacted(place)} asks; "
            f"name a path, or a URL of {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}"
        )
    return True


def redacted(url: str) -> str:
    """The URL without what may be secret in it."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return url
    parts = urlsplit(f"//{rest}")
    return f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def read(url: str, patience: Patience) -> bytes:
    """All of a small file."""
    system = _system(url, patience)
    return _tried(url, partial(_watched, system, system._cat_file, url, patience), patience)  # type: ignore[no-any-return]


def listed(url: str, patience: Patience) -> list[str]:
    """The URLs in a folder, or those that match a pattern with `*`."""
    system = _system(url, patience)
    find = system._glob if "*" in url else partial(system._ls, detail=False)
    found = _tried(url, partial(_watched, system, find, url, patience), patience)
    return [system.unstrip_protocol(name) for name in found]


def download(url: str, to: Path, patience: Patience, limit_bytes: int) -> None:
    """The file behind a URL, whole; each try begins afresh."""
    system = _system(url, patience)

    def attempt() -> None:
        to.unlink(missing_ok=True)
        progress = _progress(url, limit_bytes)
        get = partial(system._get_file, lpath=str(to), callback=progress)
        try:
            _watched(system, get, url, patience, lambda: progress.value)
        except OSError as error:
            if error.errno in (ENOSPC, EDQUOT):
                raise UserError(f"the disk has no room left for {to.parent}; make some, or lower its limit") from None
            raise
        if progress.size is not None and to.stat().st_size != progress.size:
            raise CutShort(f"it ended after {to.stat().st_size} of {progress.size} bytes")

    _tried(url, attempt, patience)


def _system(url: str, patience: Patience) -> Any:
    return _connected(url.partition("://")[0], patience, os.getpid())


@lru_cache
def _connected(scheme: str, patience: Patience, process: int) -> Any:
    """One file system for all threads, but none that a process was forked with: its loop stayed with the parent."""
    try:
        import fsspec

        return fsspec.filesystem(scheme, **(_web(patience) if scheme in ("http", "https") else {}))
    except ImportError as error:
        raise UserError(
            f"shards behind {scheme}:// take packages that are not installed ({error}); pip install 'tercet[remote]'"
        ) from None


def _web(patience: Patience) -> dict[str, Any]:
    import aiohttp

    quiet = aiohttp.ClientTimeout(total=None, sock_connect=patience.stall, sock_read=patience.stall)
    # sizes are stated for what is sent, so nothing may be packed on the way
    return {"client_kwargs": {"timeout": quiet, "trust_env": True}, "headers": {"Accept-Encoding": "identity"}}


def _progress(url: str, limit_bytes: int) -> Any:
    """What fsspec tells of a download as it goes on; one that outgrows the limit is stopped."""
    from fsspec.callbacks import Callback

    class Progress(Callback):  # type: ignore[misc]
        def call(self, *_: object, **__: object) -> None:
            if max(self.size or 0, self.value) > limit_bytes:
                raise UserError(
                    f"{redacted(url)} is larger than the {limit_bytes / 1e6:.1f} MB that the cache may hold in all; "
                    "raise the limit of the cache, or write smaller shards"
                )

    return Progress()


def _watched(
    system: Any,
    work: Callable[[str], Any],
    url: str,
    patience: Patience,
    seen: Callable[[], int] = lambda: 0,
) -> Any:
    """What a coroutine of fsspec's brings, given up when nothing more is seen of it. Not every store has a time-out."""
    future = asyncio.run_coroutine_threadsafe(work(system._strip_protocol(url)), system.loop)
    before = -1
    while not wait([future], patience.stall).done:
        if seen() == before:
            future.cancel()
            raise TimeoutError
        before = seen()
    return future.result()


def _tried(url: str, attempt: Callable[[], Result], patience: Patience) -> Result:
    pauses = patience.pauses()
    while True:
        try:
            return attempt()
        except UserError:
            raise
        except Exception as error:  # every store has exceptions of its own
            refusal = _refusal(error)
            pause = next(pauses, None)
            if refusal:
                raise Refused(f"{redacted(url)} {refusal}; mend the address, or take it out of the data") from None
            if pause is None:
                raise Unreachable(
                    f"{redacted(url)} could not be fetched in {patience.tries} tries: {_why(error, patience)}"
                ) from None
        time.sleep(pause)


def _refusal(error: Exception) -> str:
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status == 410:
        return "does not exist"
    if isinstance(error, PermissionError) or status in (401, 403):
        return "is not open to us"
    if isinstance(status, int) and 400 <= status < 500 and status not in PASSING:
        return f"is refused with status {status}"
    return ""


def _why(error: Exception, patience: Patience) -> str:
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return f"nothing came for {patience.stall:g} s"
    if status := getattr(error, "status", None):
        return f"the server answers with status {status}"
    said = " ".join(str(error).split())
    return URL.sub(lambda found: redacted(found[0]), said) or type(error).__name__

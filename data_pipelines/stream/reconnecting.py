"""Reads the bytes of a shard from front to back, from a plain file or through fsspec; never through a shell."""

import io
import json
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from tercet.data_pipelines.shards import transport
from tercet.data_pipelines.shards.address import is_url
from tercet.data_pipelines.shards.counts import remote_counts, successes
from tercet.data_pipelines.shards.patience import Patience, Unreachable, tried
from tercet.data_pipelines.stream.tar import Damage

CHUNK = 2**20


def opened(shard: str, patience: Patience) -> BinaryIO:
    if is_url(shard):
        return io.BufferedReader(ReconnectingStream(shard, patience), CHUNK)
    try:
        return open(shard, "rb", buffering=CHUNK)
    except OSError as error:
        raise Damage("shard: cannot be opened", f"it cannot be opened: {error.strerror}") from error


def stated_samples(shard: str, patience: Patience) -> int | None:
    """How many samples img2dataset wrote to a shard, according to the `_stats.json` beside it."""
    if is_url(shard):
        return remote_counts([shard], patience)[0]
    try:
        return successes(json.loads(Path(shard.removesuffix(".tar") + "_stats.json").read_bytes()))
    except (OSError, ValueError):
        return None


class ReconnectingStream(io.RawIOBase):
    """A remote file. After a network error it reconnects, and skips the bytes that it has read already."""

    def __init__(self, url: str, patience: Patience) -> None:
        self._url, self._patience = url, patience
        self._file: Any = None
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            chunk = tried(self._url, partial(self._read, len(buffer)), self._patience)
        except Unreachable as error:
            raise Damage("shard: cannot be fetched", str(error)) from error
        self._at += len(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _read(self, size: int) -> bytes:
        try:
            if self._file is None:
                self._reopen()
            chunk: bytes = self._file.read(size)
        except Exception:
            self._disconnect()
            raise
        return chunk

    def _reopen(self) -> None:
        self._file = transport.opened(self._url, self._patience)
        skipped = 0
        while skipped < self._at:
            chunk = self._file.read(min(CHUNK, self._at - skipped))
            if not chunk:
                raise transport.CutShort(f"it ended after {skipped} of {self._at} bytes")
            skipped += len(chunk)

    def _disconnect(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

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

AT_ONCE = 2**20


def opened(shard: str, patience: Patience) -> BinaryIO:
    if is_url(shard):
        return io.BufferedReader(PatientStream(shard, patience), AT_ONCE)
    try:
        return open(shard, "rb", buffering=AT_ONCE)
    except OSError as error:
        raise Damage("shard: cannot be opened", f"it cannot be opened: {error.strerror}") from error


def stated_samples(shard: str, patience: Patience) -> int | None:
    """How many samples img2dataset says that it wrote to a shard."""
    if is_url(shard):
        return remote_counts([shard], patience)[0]
    try:
        return successes(json.loads(Path(shard.removesuffix(".tar") + "_stats.json").read_bytes()))
    except (OSError, ValueError):
        return None


class PatientStream(io.RawIOBase):
    """A remote file that reconnects after a network error and skips the bytes that it had read already."""

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
        self._let_go()
        super().close()

    def _read(self, size: int) -> bytes:
        try:
            if self._file is None:
                self._reopen()
            chunk: bytes = self._file.read(size)
        except Exception:
            self._let_go()
            raise
        return chunk

    def _reopen(self) -> None:
        self._file = transport.opened(self._url, self._patience)
        passed = 0
        while passed < self._at:
            chunk = self._file.read(min(AT_ONCE, self._at - passed))
            if not chunk:
                raise transport.CutShort(f"it ended after {passed} of {self._at} bytes")
            passed += len(chunk)

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

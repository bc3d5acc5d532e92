"""Reads a tar once, from front to back, and checks it on the way.

webdataset reads a shard that was cut short as a shorter one, and stops silently at a stray block of zeros. So this
reader checks the checksum of each header, the end mark, and the bytes after it. A tar has no checksums of payloads: a
flipped byte inside one is noticed by the decoder or, as in most JPEGs, not at all.
"""

import re
import tarfile
from typing import Protocol

from tercet.data_pipelines.shards.tar import BLOCK, octal

ZEROS = bytes(BLOCK)
LARGEST_HEADER = 2**20  # bytes of a long name or of other extended headers
FILES = frozenset(tarfile.REGULAR_TYPES) - {tarfile.GNUTYPE_SPARSE}
EXTENDED = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
# links, folders and devices, which have no payload
BARE = frozenset(tarfile.SUPPORTED_TYPES) - frozenset(tarfile.REGULAR_TYPES) - EXTENDED
KINDS = FILES | EXTENDED | BARE
OTHER_SIZE = re.compile(rb"\d+ (size|GNU\.sparse\.[^=]*)=")  # extended headers that change the size of a file


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Damage(Exception):
    """A shard is damaged. `reason` is a fixed phrase, so that reasons can be counted; `detail` says where."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class CheckedTar:
    """A file object for `tarfile` that never reads past the next header. `size`: bytes of the current file."""

    def __init__(self, stream: Readable) -> None:
        self.size = 0
        self._stream = stream
        self._at = 0
        self._left = 0  # bytes of the payload and its padding that are still to come
        self._ready = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        if not self._ready and not self._ended:
            self._ready = self._payload(min(size, self._left)) if self._left else self._header()
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken

    def finish(self) -> None:
        """Reads the rest up to the end mark; only zeros may follow it."""
        while not self._ended:
            self._ready = b""
            self.read(2**20)
        while rest := self._stream.read(2**20):
            self._at += len(rest)
            if rest.strip(b"\0"):
                at = self._at - len(rest.lstrip(b"\0"))
                raise Damage("shard: data after the end mark", f"data follows its end mark, at byte {at}")

    def _header(self) -> bytes:
        block = self._read_exactly(BLOCK)
        if block == ZEROS:
            self._ended = True
            return block
        kind, size = self._parsed(block)
        if kind in EXTENDED:
            return block + self._extended(size)
        self.size = 0 if kind in BARE else size
        self._left = -(-self.size // BLOCK) * BLOCK
        return block

    def _parsed(self, block: bytes) -> tuple[bytes, int]:
        """Type and size of a file, as tarfile reads them."""
        at = self._at - BLOCK
        size, checksum = octal(block[124:136]), octal(block[148:156])
        if size < 0 or checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
            if at == 0:
                raise Damage("shard: not a tar", "it is not a tar")
            raise Damage("shard: damaged header", f"there is no valid tar header at byte {at}")
        kind = block[156:157]
        if kind not in KINDS:
            raise Damage("shard: damaged header", f"the header at byte {at} has an unknown type")
        folder = kind == tarfile.AREGTYPE and block[:100].partition(b"\0")[0].endswith(b"/")
        return (tarfile.DIRTYPE if folder else kind), size

    def _extended(self, size: int) -> bytes:
        """Reads the long name, or other extended headers of the next file."""
        at = self._at - BLOCK
        if size > LARGEST_HEADER:
            raise Damage("shard: damaged header", f"the header at byte {at} is {size} bytes long")
        payload = self._read_exactly(-(-size // BLOCK) * BLOCK)
        if OTHER_SIZE.search(payload):
            raise Damage("shard: damaged header", f"the header at byte {at} changes the size of a file")
        return payload

    def _payload(self, size: int) -> bytes:
        chunk = self._read_exactly(size)
        self._left -= size
        return chunk

    def _read_exactly(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        while len(chunk) < size and (more := self._stream.read(size - len(chunk))):
            chunk += more
        self._at += len(chunk)
        if len(chunk) < size:
            raise self._cut_short()
        return chunk

    def _cut_short(self) -> Damage:
        if self._at == 0:
            return Damage("shard: empty", "it is empty")
        return Damage("shard: cut short", f"it was cut short, {self._at} bytes long without an end mark")

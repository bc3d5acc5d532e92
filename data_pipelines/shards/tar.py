"""Where the files of a plain tar lie: one pass over its headers, no payload read, nothing extracted.

Every header's checksum and the end mark are checked, because a tar that was cut short or overwritten looks like a
shorter tar to most readers. POSIX ustar and pax, and GNU long names; links and special files are passed over.
"""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tercet.errors import UserError

BLOCK = 512
ZEROS = bytes(BLOCK)
REGULAR = b"0\0"
PAX_PATH = re.compile(rb"\d+ path=([^\n]*)\n")
NOT_ZERO = re.compile(rb"[^\0]")


@dataclass(frozen=True)
class Member:
    """A regular file in a tar: its payload is `size` bytes from `offset`."""

    name: str
    offset: int
    size: int


def members(path: Path) -> list[Member]:
    """The regular files of a tar, in order. A tar that is damaged, cut short or no tar at all is a `UserError`."""
    if path.stat().st_size < BLOCK:
        raise damaged(path, "it is empty or not a tar")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tar:
        offsets, headers = _headers(path, tar)
        _check(path, offsets, headers)
        return list(_files(tar, offsets, headers))


def damaged(path: Path, what: str) -> UserError:
    return UserError(f"shard {path} is damaged: {what}; write or fetch it again, or take it out of the data")


def _headers(path: Path, tar: mmap.mmap) -> tuple[list[int], list[bytes]]:
    """Every header with the place of its payload, up to the end mark."""
    offsets, headers, at = [], [], 0
    while True:
        header = tar[at : at + BLOCK]
        if len(header) < BLOCK:
            raise damaged(path, f"it was cut short, {len(tar)} bytes long without an end mark")
        if header == ZEROS:
            break
        at += BLOCK
        offsets.append(at)
        headers.append(header)
        at += -(-_number(path, header[124:136], at) // BLOCK) * BLOCK
    if trailing := NOT_ZERO.search(tar, at):
        raise damaged(path, f"data follows its end mark, at byte {trailing.start()}")
    return offsets, headers


def _number(path: Path, field: bytes, at: int) -> int:
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]+", digits):
        raise damaged(path, f"there is no tar header at byte {at - BLOCK}")
    return int(digits, 8)


def _check(path: Path, offsets: list[int], headers: list[bytes]) -> None:
    """Header checksums, all at once: the sum of the bytes with the checksum's own field taken as spaces."""
    if not headers:
        return
    blocks = np.frombuffer(b"".join(headers), dtype=np.uint8).reshape(-1, BLOCK)
    sums = blocks.sum(1, dtype=np.int64) - blocks[:, 148:156].sum(1, dtype=np.int64) + 8 * ord(" ")
    for offset, header, total in zip(offsets, headers, sums.tolist(), strict=True):
        if _number(path, header[148:156], offset) != total:
            raise damaged(path, f"the header at byte {offset - BLOCK} does not match its checksum")


def _files(tar: mmap.mmap, offsets: list[int], headers: list[bytes]) -> Iterator[Member]:
    long_name = b""
    for offset, header in zip(offsets, headers, strict=True):
        kind, size = header[156:157], int(header[124:136].strip(b" \0"), 8)
        if kind == b"x":
            found = PAX_PATH.search(tar, offset, offset + size)
            long_name = found[1] if found else long_name
        elif kind == b"L":
            long_name = tar[offset : offset + size].rstrip(b"\0")
        else:
            if kind in REGULAR:
                yield Member((long_name or _name(header)).decode("utf-8", "surrogateescape"), offset, size)
            long_name = b""


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name

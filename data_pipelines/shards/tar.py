"""Finds the files of a plain tar in one pass over its headers. No payload is read, and nothing is extracted.

Every header's checksum and the end mark are checked, because a tar that was cut short or overwritten looks like a
shorter tar to most readers. POSIX ustar and pax, and GNU long names; links and special files are skipped.

Shape letters: M headers.
"""

import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tercet.errors import UserError

BLOCK = 512
REGULAR, PAX, GNU_LONG_NAME = (ord("0"), 0), ord("x"), ord("L")
PAX_PATH = re.compile(rb"\d+ path=([^\n]*)\n")
NOT_ZERO = re.compile(rb"[^\0]")

Headers = NDArray[np.uint8]  # [M, 512]
Missing = Literal["fail", "skip"]  # a damaged shard ends the run, or its samples are bad


class Member(NamedTuple):
    """A regular file in a tar: its payload is `size` bytes from `offset`."""

    name: bytes
    offset: int
    size: int


class DamagedShard(UserError):
    """A shard that is not a complete tar."""

    def __init__(self, shard: str, what: str) -> None:
        super().__init__(shard, what)
        self.shard, self.what = shard, what

    def __str__(self) -> str:
        return f"shard {self.shard} is damaged: {self.what}; write or fetch it again, or remove it from the data"


def members(shard: str) -> list[Member]:
    """The regular files of a tar, in order. Raises `DamagedShard` if it is damaged, cut short or not a tar."""
    with Path(shard).open("rb") as file:
        if file.seek(0, os.SEEK_END) < BLOCK:
            raise DamagedShard(shard, "it is empty or not a tar")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tar:
            places = _walk(shard, tar)
            headers = _headers(tar, [offset - BLOCK for offset, _ in places])
            _check(shard, headers, places)
            return list(_files(tar, headers, places))


def _walk(shard: str, tar: mmap.mmap) -> list[tuple[int, int]]:
    """Offset and size of every payload, from header to header up to the end mark."""
    places, at = [], 0
    while at < len(tar) and tar[at]:  # an end mark is all zeros, and no name begins with one
        size = octal(tar[at + 124 : at + 136])
        at += BLOCK
        if size < 0 and at <= len(tar):
            raise DamagedShard(shard, f"there is no tar header at byte {at - BLOCK}")
        places.append((at, size))
        at += -(-size // BLOCK) * BLOCK
    if at + BLOCK > len(tar):
        raise DamagedShard(shard, f"it was cut short, {len(tar)} bytes long without an end mark")
    if trailing := NOT_ZERO.search(tar, at):
        raise DamagedShard(shard, f"data follows its end mark, at byte {trailing.start()}")
    return places


def octal(field: bytes) -> int:
    """The number in a field of a header: 0 if it is empty, -1 if it is not a number."""
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return -1


def _headers(tar: mmap.mmap, starts: list[int]) -> Headers:
    blocks = np.frombuffer(tar, dtype=np.uint8, count=len(tar) // BLOCK * BLOCK).reshape(-1, BLOCK)
    return blocks[np.array(starts, dtype=np.int64) // BLOCK]


def _check(shard: str, headers: Headers, places: list[tuple[int, int]]) -> None:
    """A checksum is the sum of the bytes of the header, with its own field as eight spaces."""
    own_M8 = headers[:, 148:156].astype(np.int64)
    sum_M = headers.sum(1, dtype=np.int64) - own_M8.sum(1) + 8 * ord(" ")
    stated_M = np.zeros(len(headers), dtype=np.int64)
    for character_M in own_M8.T:
        digit_M = character_M - ord("0")
        stated_M = np.where((digit_M >= 0) & (digit_M < 8), 8 * stated_M + digit_M, stated_M)
    wrong = np.flatnonzero(stated_M != sum_M)
    if len(wrong):
        start = places[wrong[0]][0] - BLOCK
        raise DamagedShard(shard, f"the header at byte {start} does not match its checksum")


def _files(tar: mmap.mmap, headers: Headers, places: list[tuple[int, int]]) -> Iterator[Member]:
    long_name = b""
    for name, kind, (offset, size) in zip(_names(headers), headers[:, 156].tolist(), places, strict=True):
        if kind == PAX:
            found = PAX_PATH.search(tar, offset, offset + size)
            long_name = found[1] if found else long_name
        elif kind == GNU_LONG_NAME:
            long_name = tar[offset : offset + size].rstrip(b"\0")
        else:
            if kind in REGULAR:
                yield Member(long_name or name, offset, size)
            long_name = b""


def _names(headers: Headers) -> Iterator[bytes]:
    posix = (headers[:, 257:263] == np.frombuffer(b"ustar\0", dtype=np.uint8)).all(1)
    prefixes = np.where(posix, _texts(headers, 345, 500), b"").tolist()
    for prefix, name in zip(prefixes, _texts(headers, 0, 100).tolist(), strict=True):
        yield prefix + b"/" + name if prefix else name


def _texts(headers: Headers, start: int, stop: int) -> NDArray[np.bytes_]:
    """A field of every header, without the zeros at its end."""
    return np.ascontiguousarray(headers[:, start:stop]).view(f"S{stop - start}")[:, 0]

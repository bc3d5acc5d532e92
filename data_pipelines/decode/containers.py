"""Which containers of sound are opened, and whether a file has all the bytes that its container announces.

libsndfile reads a WAV, an AIFF or an OGG that was cut short as a shorter one, and reports no error for a crop that lies
before the cut.
"""

import struct
from collections.abc import Callable, Mapping

UNKNOWN = 0xFFFFFFFF  # the size in a file whose writer could not go back to correct it
LAST_PAGE = 4  # flag of the page that ends a stream
SIZE_GIVEN, COUNT_GIVEN = 2, 1  # flags of the first frame of an MP3, which describes the others
NEAR = 256  # bytes of an MP3 in which that frame begins


def readable(data: bytes) -> bool:
    """Whether these bytes begin as WAV, FLAC, OGG, AIFF or MP3 do."""
    known = data[:4] in COMPLETE and (data[:4] != b"FORM" or data[8:12] in (b"AIFF", b"AIFC"))
    return known or _is_mp3(data)


def complete(data: bytes) -> bool:
    """Whether no byte is missing. A FLAC does not say, nor does an MP3 without such a first frame."""
    return COMPLETE.get(data[:4], _mp3)(data)


def _wav(data: bytes) -> bool:
    at, long_size = 12, UNKNOWN
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"ds64" and at + 24 <= len(data):
            (long_size,) = struct.unpack_from("<Q", data, at + 16)
        if name == b"data":
            size = long_size if size == UNKNOWN else size
            return size == UNKNOWN or at + 8 + size <= len(data)
        at += 8 + size + size % 2
    return False


def _aiff(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from(">4sI", data, at)
        if name == b"SSND":
            return bool(at + 8 + size <= len(data))
        at += 8 + size + size % 2
    return False


def _ogg(data: bytes) -> bool:
    page = data.rfind(b"OggS")
    segments = data[page + 27 : page + 27 + data[page + 26]] if page + 26 < len(data) else b""
    whole = page + 27 + len(segments) + sum(segments) <= len(data)
    return whole and bool(segments) and bool(data[page + 5] & LAST_PAGE)


def _flac(data: bytes) -> bool:
    return True


def _mp3(data: bytes) -> bool:
    start = _after_tag(data)
    head = data[start : start + NEAR]
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or at + 16 > len(head):
        return True
    (flags,) = struct.unpack_from(">I", head, at + 4)
    (size,) = struct.unpack_from(">I", head, at + 8 + 4 * (flags & COUNT_GIVEN))
    return not flags & SIZE_GIVEN or start + size <= len(data)


def _is_mp3(data: bytes) -> bool:
    return data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0")


def _after_tag(data: bytes) -> int:
    """Where the sound begins after an ID3 tag, whose size has seven bits in each byte."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    a, b, c, d = data[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d)


COMPLETE: Mapping[bytes, Callable[[bytes], bool]] = {
    b"RIFF": _wav, b"RF64": _wav, b"FORM": _aiff, b"OggS": _ogg, b"fLaC": _flac,
}  # fmt: skip

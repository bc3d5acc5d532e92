"""A passage of a sound, wherever it lies, as it is when the sound is decoded from its start.

Decoders do not give that when they are set to a place: an MP3's frame leans on bits of the frames before it, and
libvorbis counts the frames of the last page, which its writer has trimmed, from the wrong end. There it is decoded from
a little earlier, and what comes too early is dropped. Imports no torch.
"""

import struct

import soundfile

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import MOST_VALUES
from tercet.data_pipelines.decode.media import Sound
from tercet.data_pipelines.decode.resample import Wave

LEAD = 11 * 1152  # frames of an MP3's eleven own: nine hold the 511 bytes that one may lean on, two overlap
SOON = 2**18  # frames from the start that are decoded rather than have libmpg123 write to the terminal what it lacks


def passage(sound: Sound, data: bytes, first: int, last: int) -> Wave:
    """`[T, C]`. A FLAC that ends before its last frame is noticed whatever part of it is read."""
    if (last - first) * sound.channels > MOST_VALUES:
        raise BadSample("audio: over the caps")
    try:
        wave_TC = _frames(sound, _entrance(sound, data, first), first, last)
        if sound.format == "FLAC" and last < sound.frames:
            _frames(sound, sound.frames - 1, sound.frames - 1, sound.frames)
    except soundfile.SoundFileError as error:
        raise BadSample("audio: truncated or damaged") from error
    return wave_TC


def _entrance(sound: Sound, data: bytes, first: int) -> int:
    """From which frame on to decode, so that the passage comes out right."""
    if sound.format == "MP3":
        return first - LEAD if first > SOON else 0
    if sound.subtype == "VORBIS":
        return min(first, _before_the_last_page(data))
    return first


def _before_the_last_page(data: bytes) -> int:
    """A frame of the page before; none that ends a page is told of by -1."""
    (end,) = struct.unpack_from("<q", data, data.rfind(b"OggS", 0, data.rfind(b"OggS")) + 6)
    return max(int(end) - 1, 0)


def _frames(sound: Sound, entrance: int, first: int, last: int) -> Wave:
    if entrance:
        sound.seek(entrance)
    wave_TC: Wave = sound.read(last - entrance, dtype="float32", always_2d=True)
    if len(wave_TC) < last - entrance:
        raise BadSample("audio: truncated or damaged")
    return wave_TC[first - entrance :]

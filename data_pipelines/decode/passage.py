"""Decodes a passage of a sound, exactly as if the sound were decoded from its start.

Decoders do not do that after a seek: a frame of an MP3 depends on bits of earlier frames, and libvorbis counts the
frames of the last page, which its writer has trimmed, from the wrong end. Decoding then starts a little earlier, and
the frames before the passage are dropped. Imports no torch.
"""

import struct

import soundfile

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import MOST_VALUES
from tercet.data_pipelines.decode.media import Sound
from tercet.data_pipelines.decode.resample import Wave

LEAD = 11 * 1152  # frames in eleven MP3 frames: nine contain the 511 bytes that one may depend on, two overlap
SOON = 2**18  # passages before this frame are decoded from the start, so that libmpg123 prints no warning


def passage(sound: Sound, data: bytes, first: int, last: int) -> Wave:
    """`[T, C]`. Raises for a FLAC that ends before its last frame, whichever part is read."""
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
    """The frame to start decoding at."""
    if sound.format == "MP3":
        return first - LEAD if first > SOON else 0
    if sound.subtype == "VORBIS":
        return min(first, _before_the_last_page(data))
    return first


def _before_the_last_page(data: bytes) -> int:
    """A frame of the page before; pages that end no frame have -1."""
    (end,) = struct.unpack_from("<q", data, data.rfind(b"OggS", 0, data.rfind(b"OggS")) + 6)
    return max(int(end) - 1, 0)


def _frames(sound: Sound, entrance: int, first: int, last: int) -> Wave:
    if entrance:
        sound.seek(entrance)
    wave_TC: Wave = sound.read(last - entrance, dtype="float32", always_2d=True)
    if len(wave_TC) < last - entrance:
        raise BadSample("audio: truncated or damaged")
    return wave_TC[first - entrance :]

"""Opens a picture or a sound by its header, within the caps, or decodes all of it to verify it."""

import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from io import BytesIO

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import (
    FORMATS,
    LEAST_HERTZ,
    MOST_CHANNELS,
    MOST_HERTZ,
    MOST_PIXELS,
    MOST_SECONDS,
)
from tercet.data_pipelines.decode.containers import complete, readable

HEIC = (b"heic", b"heix", b"mif1", b"msf1", b"hevc")
M4A = (b"M4A ", b"M4B ", b"mp42", b"isom", b"mp41", b"iso2")
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8")  # of JPEG, PNG and GIF
OTHERS: Mapping[str, Callable[[bytes], bool]] = {
    "SVG, which is not read; convert it to PNG": lambda data: b"<svg" in data[:1024],
    "HEIC, which is not read; convert it to JPEG": lambda data: data[4:8] == b"ftyp" and data[8:12] in HEIC,
    "truncated or damaged": lambda data: data.startswith(BEGINNINGS),
}
# What Pillow raises on broken files.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    EOFError,
)
UNTOLD = 2**63 - 1  # what libsndfile gives as the frames of a FLAC that was written to a pipe, without their number
BLOCK = 2**16  # frames of a sound in memory at once

# Pillow warns of tags that it skips, and of large pictures, for which MOST_PIXELS is the limit.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_picture(data: bytes) -> Image.Image:
    """Not decoded yet. Of an animation, only the first frame is ever decoded."""
    try:
        picture: Image.Image = Image.open(BytesIO(data), formats=_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadSample("image: too many pixels") from error
    except UNREADABLE as error:
        raise BadSample(f"image: {_other_format(data)}") from error
    if picture.width * picture.height > MOST_PIXELS:
        raise BadSample("image: too many pixels")
    return picture


@cache
def _formats() -> tuple[str, ...]:
    """Those that this Pillow knows: AVIF is missing from builds without its library."""
    Image.init()
    return tuple(format for format in FORMATS if format in Image.OPEN)


def _other_format(data: bytes) -> str:
    return next((reason for reason, applies in OTHERS.items() if applies(data)), "not a known format")


def verify_picture(data: bytes) -> None:
    """Decodes every pixel. Also compares the checksums of a PNG, because its decoder stops before the last one."""
    picture = open_picture(data)
    try:
        picture.load()
        if picture.format == "PNG":
            open_picture(data).verify()
    except UNREADABLE as error:
        raise BadSample("image: truncated or damaged") from error


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks after every read, which disturbs the decoding of an MP3, unless the file is not seekable."""

    def seekable(self) -> bool:
        return False


def open_sound(data: bytes) -> Sound:
    """Not decoded yet."""
    if not readable(data):
        m4a = data[4:8] == b"ftyp" and data[8:12] in M4A
        raise BadSample(f"audio: {'M4A, which is not read; convert it to FLAC' if m4a else 'not a known format'}")
    if not complete(data):
        raise BadSample("audio: truncated or damaged")
    try:
        sound = Sound(BytesIO(data))
    except soundfile.SoundFileError as error:
        raise BadSample("audio: unreadable") from error
    if sound.frames < 1:
        raise BadSample("audio: empty")
    if sound.frames == UNTOLD:
        raise BadSample("audio: unknown length")
    rate = sound.samplerate
    if sound.channels > MOST_CHANNELS or not LEAST_HERTZ <= rate <= MOST_HERTZ or sound.frames > MOST_SECONDS * rate:
        raise BadSample("audio: over the caps")
    return sound


def verify_sound(data: bytes) -> None:
    """Decodes every frame that the header promises."""
    with open_sound(data) as sound:
        if sum(len(wave) for wave in waves(sound)) < sound.frames:
            raise BadSample("audio: truncated or damaged")


def waves(sound: Sound) -> Iterator[NDArray[np.float32]]:
    """The sound in blocks, `[frames, channels]`."""
    try:
        while len(wave := sound.read(BLOCK, dtype="float32", always_2d=True)):
            if not np.isfinite(wave).all():
                raise BadSample("audio: not finite")
            yield wave
    except soundfile.SoundFileError as error:
        raise BadSample("audio: truncated or damaged") from error

"""A picture or a sound opened by its header, with the caps of decoding, and read whole where every byte is wanted."""

import struct
from collections.abc import Iterator
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

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises on broken files
UNTOLD = 2**63 - 1  # frames that libsndfile gives a FLAC which was written to a pipe and does not say how many
BLOCK = 2**16  # frames of a sound that are held at once


def open_picture(data: bytes) -> Image.Image:
    """Not decoded yet."""
    try:
        picture: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadSample("image: too many pixels") from error
    except UNREADABLE as error:
        raise BadSample("image: not a JPEG, PNG or WEBP") from error
    if picture.width * picture.height > MOST_PIXELS:
        raise BadSample("image: too many pixels")
    return picture


def verify_picture(data: bytes) -> None:
    """Decodes every pixel. A PNG's checksums are compared too, for its decoder stops before the last."""
    picture = open_picture(data)
    try:
        picture.load()
        if picture.format == "PNG":
            open_picture(data).verify()
    except UNREADABLE as error:
        raise BadSample("image: truncated or damaged") from error


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile sets its place anew after every read, from where an MP3 does not go on as it was; not if it cannot."""

    def seekable(self) -> bool:
        return False


def open_sound(data: bytes) -> Sound:
    """Not decoded yet."""
    if not readable(data):
        raise BadSample("audio: not a WAV, FLAC, OGG or MP3")
    if not complete(data):
        raise BadSample("audio: truncated or damaged")
    try:
        sound = Sound(BytesIO(data))
    except soundfile.SoundFileError as error:
        raise BadSample("audio: unreadable") from error
    if sound.frames < 1:
        raise BadSample("audio: empty")
    if sound.frames == UNTOLD:
        raise BadSample("audio: of untold length")
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
    """The sound by and by, `[frames, channels]`."""
    try:
        while len(wave := sound.read(BLOCK, dtype="float32", always_2d=True)):
            if not np.isfinite(wave).all():
                raise BadSample("audio: not finite")
            yield wave
    except soundfile.SoundFileError as error:
        raise BadSample("audio: truncated or damaged") from error

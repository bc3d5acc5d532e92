"""JPEG through libjpeg-turbo: whole, or at 1/2, 1/4 or 1/8 from the low frequencies of each 8 × 8 block alone."""

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import MOST_PIXELS
from tercet.data_pipelines.decode.orientation import Rotation, turn_of
from tercet.data_pipelines.decode.still import opened_still

COLOURS = ("YCbCr", "RGB", "Gray")  # CMYK is decoded by Pillow, which knows how Adobe inverts it
APP1, FILL, SCAN = 0xE1, 0xFF, 0xDA
EXIF = b"Exif\0\0"


@dataclass(frozen=True)
class Jpeg:
    """A JPEG whose header was read; `size` is width and height as stored."""

    data: bytes
    size: tuple[int, int]

    @property
    def reductions(self) -> tuple[int, ...]:
        return (1, 2, 4, 8)

    @property
    def turn(self) -> Rotation:
        return turn_of(exif_of(self.data))

    def pixels(self, reduction: int) -> NDArray[np.uint8]:
        """Each pixel covers `reduction` × `reduction`; the last one of an axis may reach beyond the picture."""
        try:
            return self._decoded(reduction, strict=True)
        except ValueError:  # the library raises at any warning
            opened_still(self.data)  # Pillow raises for missing bytes, but not for stray ones
        try:
            return self._decoded(reduction, strict=False)
        except ValueError as error:
            raise BadSample("image: truncated or damaged") from error

    def _decoded(self, reduction: int, strict: bool) -> NDArray[np.uint8]:
        width, height = (-(-side // reduction) for side in self.size)
        pixels_HWC: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            self.data, "RGB", min_height=height, min_width=width, min_factor=reduction, strict=strict
        )
        return pixels_HWC


def opened_jpeg(data: bytes) -> Jpeg | None:
    """The JPEG; None for other formats, and for colours that are not decoded here."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours not in COLOURS:
        return None
    if width * height > MOST_PIXELS:
        raise BadSample("image: too many pixels")
    return Jpeg(data, (width, height))


def exif_of(data: bytes) -> bytes:
    """The EXIF block of a JPEG, if there is one before the pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == FILL and (marker := data[at + 1]) != SCAN:
        if marker == FILL:
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == APP1 and data.startswith(EXIF, at + 4):
            return data[at + 4 : end]
        at = end
    return b""

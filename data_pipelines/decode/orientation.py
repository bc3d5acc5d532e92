"""Undoes the eight orientations of EXIF, on the small result instead of the whole picture.

A box on the upright picture is translated to the stored picture, and only the result is turned.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.transforms.crop import Box

ORIENTATION = 0x0112
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
)  # what Pillow raises on broken EXIF


class Rotation(NamedTuple):
    """What makes a stored picture upright: exchange rows and columns, then reverse either axis."""

    transposed: bool
    mirrored: bool
    upended: bool

    def size(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the upright picture from those of the stored one, and back."""
        return (stored[1], stored[0]) if self.transposed else stored

    def stored_box(self, box: Box, upright: tuple[int, int]) -> Box:
        """The box of the stored picture that shows this box of the upright picture (of this width and height)."""
        left, upper, right, lower = box
        if self.mirrored:
            left, right = upright[0] - right, upright[0] - left
        if self.upended:
            upper, lower = upright[1] - lower, upright[1] - upper
        return (upper, left, lower, right) if self.transposed else (left, upper, right, lower)

    def upright(self, stored_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        turned_HWC = stored_HWC.transpose(1, 0, 2) if self.transposed else stored_HWC
        return np.ascontiguousarray(turned_HWC[:: -1 if self.upended else 1, :: -1 if self.mirrored else 1])


UPRIGHT = Rotation(False, False, False)
TURNS = {
    2: Rotation(False, True, False),
    3: Rotation(False, True, True),
    4: Rotation(False, False, True),
    5: Rotation(True, False, False),
    6: Rotation(True, True, False),
    7: Rotation(True, True, True),
    8: Rotation(True, False, True),
}


def turn_of(exif: bytes) -> Rotation:
    """The rotation in an EXIF block; none if the block is broken, because the pixels are still good."""
    if not exif:
        return UPRIGHT
    read = Image.Exif()
    try:
        read.load(exif)
        return TURNS.get(read.get(ORIENTATION, 1), UPRIGHT)
    except BROKEN:
        return UPRIGHT

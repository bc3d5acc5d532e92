"""How a camera was held: the eight orientations of EXIF, undone on the small result instead of the whole picture.

A box drawn on the upright picture is looked up in the picture as it is stored, and only what came out is turned.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.transforms.crop import Box

ORIENTATION = 0x0112
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError)  # Pillow's of EXIF that is not


class Rotation(NamedTuple):
    """What makes a stored picture upright: rows and columns changed over, then either axis reversed."""

    transposed: bool
    mirrored: bool
    upended: bool

    def size(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Two numbers, one for each axis: those of the upright picture from those of the stored one, and back."""
        return (stored[1], stored[0]) if self.transposed else stored

    def stored_box(self, box: Box, upright: tuple[int, int]) -> Box:
        """Where a box of the upright picture (of this width and height) lies in the stored one."""
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
    """What an EXIF block asks for. A broken one asks for nothing: the pixels are as good as without it."""
    if not exif:
        return UPRIGHT
    read = Image.Exif()
    try:
        read.load(exif)
        return TURNS.get(read.get(ORIENTATION, 1), UPRIGHT)
    except BROKEN:
        return UPRIGHT

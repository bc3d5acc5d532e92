"""Pictures that Pillow decodes: all but JPEG, and JPEG in CMYK or with damage that Pillow repairs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.media import UNREADABLE, open_picture
from tercet.data_pipelines.decode.orientation import Rotation, turn_of


@dataclass(frozen=True)
class Still:
    """A decoded picture; `size` is width and height as stored."""

    picture: Image.Image
    turn: Rotation

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.size

    @property
    def reductions(self) -> tuple[int, ...]:
        return (1,)

    def pixels(self, reduction: int) -> NDArray[np.uint8]:
        return np.array(self.picture)


def opened_still(data: bytes) -> Still:
    """The picture in RGB, if its format is known and its size below the cap."""
    picture = open_picture(data)
    try:
        picture.load()
    except UNREADABLE as error:
        raise BadSample("image: truncated or damaged") from error
    return Still(rgb(picture), turn_of(picture.info.get("exif", b"")))


def rgb(picture: Image.Image) -> Image.Image:
    """In eight bits a channel, transparent parts on white."""
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = Image.fromarray(_eight_bits(np.asarray(picture)))
    try:
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        return picture.convert("RGB")
    except ValueError as error:  # as LAB, which needs a colour profile
        raise BadSample("image: colours that cannot be converted to RGB") from error


def _eight_bits(grey_HW: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of more bits, which Pillow would clip to white. Numbers of 16 bits keep their upper half, and floats
    from 0 to 1 their range; others are stretched over the range that they have."""
    if grey_HW.dtype.kind != "f" and grey_HW.min() >= 0 and grey_HW.max() < 2**16:
        return (grey_HW >> 8).astype(np.uint8)
    value_HW = np.nan_to_num(grey_HW.astype(np.float64), posinf=0, neginf=0)
    least, most = float(value_HW.min()), float(value_HW.max())
    if grey_HW.dtype.kind == "f" and least >= 0 and most <= 1:
        least, most = 0.0, 1.0
    return np.rint((value_HW - least) * (255 / ((most - least) or 1))).astype(np.uint8)

"""Pictures that Pillow reads: PNG, WEBP, and JPEG in the colours of print or damaged in a way that it forgives."""

from dataclasses import dataclass

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
    """The picture in RGB, if it is of a format and size that are taken in."""
    picture = open_picture(data)
    try:
        picture.load()
    except UNREADABLE as error:
        raise BadSample("image: truncated or damaged") from error
    return Still(_rgb(picture), turn_of(picture.info.get("exif", b"")))


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")

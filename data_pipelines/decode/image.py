"""Bytes to RGB pixels. What a header claims is checked before anything is allocated."""

import struct
from io import BytesIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.sample import ImageIntake
from tercet.data_pipelines.transforms.crop import View

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PIXELS = 2**26  # 67 million, below the size at which Pillow itself warns of a bomb
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises on broken files


def decode_image(data: bytes, intake: ImageIntake, view: View) -> Tensor:
    """The viewed part of a picture, antialiased to the intake's size: uint8 `[3, H, W]`."""
    picture = _rgb(_opened(data))
    height, width = intake.size
    box = view.box(picture.size, picture.size if intake.resize == "squash" else (width, height))
    seen = picture.resize((width, height), Image.Resampling[intake.interpolation.upper()], box=box)
    return torch.from_numpy(np.ascontiguousarray(np.asarray(seen).transpose(2, 0, 1)))


def _opened(data: bytes) -> Image.Image:
    try:
        picture: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadSample("image: too many pixels") from error
    except UNREADABLE as error:
        raise BadSample("image: not a JPEG, PNG or WEBP") from error
    if picture.width * picture.height > MOST_PIXELS:
        raise BadSample("image: too many pixels")
    try:
        picture.load()
    except UNREADABLE as error:
        raise BadSample("image: truncated or damaged") from error
    return ImageOps.exif_transpose(picture) if "exif" in picture.info else picture


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")

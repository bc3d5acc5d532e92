"""A picture as it goes into a shard: the file's own bytes, or a smaller picture of the same kind. Imports no torch."""

import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import FORMATS, MOST_PIXELS
from tercet.data_pipelines.pack.config import PackConfig

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
SAVED_AS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises on broken files
ROOM = 2  # a JPEG may be decoded at a fraction of its size if that is so many times what is wanted


def pack_picture(data: bytes, config: PackConfig) -> tuple[str, bytes]:
    """Extension and bytes. Every picture is decoded, for nothing else shows that it is whole."""
    picture = _opened(data)
    extension = EXTENSIONS[picture.format or ""]
    if config.size is None or min(picture.size) <= config.size:
        _load(picture)
        return extension, data
    picture.draft(None, (ROOM * config.size, ROOM * config.size))
    _load(picture)
    return extension, _encoded(_resized(picture, config.size), extension, config.quality)


def _opened(data: bytes) -> Image.Image:
    try:
        picture: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadSample("image: too many pixels") from error
    except UNREADABLE as error:
        raise BadSample("image: not a JPEG, PNG or WEBP") from error
    if picture.width * picture.height > MOST_PIXELS:
        raise BadSample("image: too many pixels")
    return picture


def _load(picture: Image.Image) -> None:
    try:
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
    except UNREADABLE as error:
        raise BadSample("image: truncated or damaged") from error


def _resized(picture: Image.Image, shorter: int) -> Image.Image:
    """Antialiased. The colour profile is kept where it still speaks of these colours."""
    scale = shorter / min(picture.size)
    width, height = (max(shorter, round(side * scale)) for side in picture.size)
    resized = _plain(picture).resize((width, height), Image.Resampling.BICUBIC)
    resized.info = {"icc_profile": picture.info.get("icc_profile") if resized.mode == picture.mode else None}
    return resized


def _plain(picture: Image.Image) -> Image.Image:
    """In a mode that can be resized, and that a file of the picture's own format can hold."""
    if picture.mode in ("L", "RGB", "RGBA"):
        return picture
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _encoded(picture: Image.Image, extension: str, quality: int) -> bytes:
    file = BytesIO()
    options = {} if extension == "png" else {"quality": quality}
    picture.save(file, SAVED_AS[extension], icc_profile=picture.info["icc_profile"], **options)
    return file.getvalue()

"""A picture as it goes into a shard: the file's own bytes, or a smaller picture of the same kind. Imports no torch."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.media import UNREADABLE, open_picture, verify_picture
from tercet.data_pipelines.pack.config import PackConfig

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
SAVED_AS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
ROOM = 2  # a JPEG may be decoded at a fraction of its size if that is so many times what is wanted


def pack_picture(data: bytes, config: PackConfig) -> tuple[str, bytes]:
    """Extension and bytes. Every picture is decoded, for nothing else shows that it is whole."""
    picture = open_picture(data)
    extension = EXTENSIONS[picture.format or ""]
    if config.size is None or min(picture.size) <= config.size:
        verify_picture(data)
        return extension, data
    return extension, _encoded(_smaller(picture, config.size), extension, config.quality)


def _smaller(picture: Image.Image, shorter: int) -> Image.Image:
    """Upright and antialiased. The colour profile is kept where it still speaks of these colours."""
    picture.draft(None, (ROOM * shorter, ROOM * shorter))
    try:
        upright = ImageOps.exif_transpose(picture)
    except UNREADABLE as error:
        raise BadSample("image: truncated or damaged") from error
    scale = shorter / min(upright.size)
    width, height = (max(shorter, round(side * scale)) for side in upright.size)
    smaller = _plain(upright).resize((width, height), Image.Resampling.BICUBIC)
    smaller.info = {"icc_profile": picture.info.get("icc_profile") if smaller.mode == picture.mode else None}
    return smaller


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

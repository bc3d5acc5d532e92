"""Makes the picture that goes into a shard: the file's own bytes, or a smaller picture. Imports no torch."""

from io import BytesIO

from PIL import Image, ImageOps

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.media import UNREADABLE, open_picture, verify_picture
from tercet.data_pipelines.decode.still import rgb
from tercet.data_pipelines.pack.config import PackConfig

EXTENSIONS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp",
    "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "AVIF": "avif",
}  # fmt: skip
SAVED_AS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
RESIZED_AS = {"gif": "png", "bmp": "png", "tif": "png", "avif": "webp"}  # what a resized picture of these becomes
DEEP_GREY = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")  # more than eight bits
SPARE = 2  # a JPEG may be decoded at a fraction of its size if that is so many times the size wanted


def pack_picture(data: bytes, config: PackConfig) -> tuple[str, bytes]:
    """Extension and bytes. Every picture is decoded, because nothing else shows that it is complete."""
    picture = open_picture(data)
    extension = EXTENSIONS[picture.format or ""]
    if config.size is None or min(picture.size) <= config.size:
        verify_picture(data)
        return extension, data
    extension = RESIZED_AS.get(extension, extension)
    return extension, _encoded(_smaller(picture, config.size), extension, config.quality)


def _smaller(picture: Image.Image, shorter: int) -> Image.Image:
    """Upright and antialiased. The colour profile is kept unless the colours were converted."""
    picture.draft(None, (SPARE * shorter, SPARE * shorter))
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
    """In a mode that can be resized and saved."""
    if picture.mode in ("L", "RGB", "RGBA"):
        return picture
    if picture.mode in DEEP_GREY:
        return rgb(picture).convert("L")
    return picture.convert("RGBA") if picture.has_transparency_data else rgb(picture)


def _encoded(picture: Image.Image, extension: str, quality: int) -> bytes:
    file = BytesIO()
    options = {} if extension == "png" else {"quality": quality}
    picture.save(file, SAVED_AS[extension], icc_profile=picture.info["icc_profile"], **options)
    return file.getvalue()

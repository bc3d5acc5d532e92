"""Converts what `embed` is given into files, so that it is decoded, resized and resampled like data sets."""

import os
from io import BytesIO
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from tercet.data_pipelines.source import Files
from tercet.errors import UserError, did_you_mean
from tercet.modality import FILES

PLAIN = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # picture modes that PNG can store


def files_of(modality: str, given: Any) -> Files:
    """A path, bytes, a picture, pixels uint8 `[H, W, 3]`, or a sound as (wave, rate)."""
    if isinstance(given, str | os.PathLike):
        return _read(modality, Path(given))
    if isinstance(given, bytes | bytearray):
        return {FILES[modality][0]: bytes(given)}
    if modality == "image":
        return {"png": _png(given if isinstance(given, Image.Image) else _picture(given))}
    if modality == "audio" and is_sound(given):
        return {"wav": _wav(*given)}
    raise UserError(f"{modality}: {type(given).__name__} cannot be embedded; give {_known(modality)}")


def is_picture(given: Any) -> bool:
    """Whether it is a PIL image or an array of pixels."""
    return isinstance(given, Image.Image) or getattr(given, "ndim", None) == 3


def is_sound(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Real)


def _read(modality: str, path: Path) -> Files:
    extension = path.suffix[1:].lower()
    if extension not in FILES[modality]:
        raise UserError(f"{path} is not a file of {modality}; {did_you_mean(extension, FILES[modality])}")
    try:
        return {extension: path.read_bytes()}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _png(picture: Image.Image) -> bytes:
    """An upright PNG, without loss."""
    upright = ImageOps.exif_transpose(picture)
    written = BytesIO()
    (upright if upright.mode in PLAIN else upright.convert("RGB")).save(written, "PNG", compress_level=1)
    return written.getvalue()


def _picture(pixels: Any) -> Image.Image:
    array = _array(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UserError(f"image: an array of {array.dtype} {list(array.shape)}; give uint8 [height, width, 3]")
    return Image.fromarray(array)


def _wav(wave: Any, rate: float) -> bytes:
    """A WAV of a wave `[T]`, or of channels with time along the longer axis. Integers use their full range."""
    array = _array(wave)
    if array.ndim not in (1, 2) or not array.size or rate < 1 or rate != int(rate):
        raise UserError(f"audio: a wave of shape {list(array.shape)} at {rate!r}; give ([T] or [channels, T], hertz)")
    if array.dtype.kind == "i":
        array = array / -np.iinfo(array.dtype).min
    if array.dtype.kind != "f":
        raise UserError(f"audio: a wave of {array.dtype}; give floats from -1 to 1, or signed integers")
    written = BytesIO()
    along = array.T if array.ndim == 2 and array.shape[0] < array.shape[1] else array
    soundfile.write(written, along, int(rate), format="WAV", subtype="FLOAT")
    return written.getvalue()


def _array(given: Any) -> NDArray[Any]:
    return np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)


def _known(modality: str) -> str:
    known = {"image": "a path, bytes, a PIL image or uint8 pixels", "audio": "a path, bytes or (wave, rate)"}
    return known.get(modality, "a path or bytes")

"""The signals of a picture: its header, and how much its pixels differ."""

import numpy as np
from PIL import Image

from tercet.data_pipelines.curate.score_group import ScoreColumn
from tercet.data_pipelines.decode.media import open_picture
from tercet.data_pipelines.duplicates.picture import look

SIDE = 32
BLANK = 0.01  # contrast

COLUMNS = {
    "width": ScoreColumn("int32", "pixels, before a rotation that EXIF asks for"),
    "height": ScoreColumn("int32", "pixels"),
    "aspect": ScoreColumn("float32", "width / height"),
    "image_bytes": ScoreColumn("int64", "size of the picture's file"),
    "image_format": ScoreColumn("string", "as Pillow names it: JPEG, PNG, WEBP, …"),
    "contrast": ScoreColumn(
        "float32",
        f"standard deviation of the grey values (0 to 1) of the picture at {SIDE} × {SIDE} pixels",
    ),
    "blank": ScoreColumn("bool", f"contrast below {BLANK}: the picture shows nothing"),
}


def picture_signals(data: bytes) -> dict[str, object]:
    picture = open_picture(data)
    width, height = picture.size
    header = {"width": width, "height": height, "aspect": width / height}
    contrast = _contrast(look(data))
    file = {"image_bytes": len(data), "image_format": picture.format}
    return {**header, **file, "contrast": contrast, "blank": contrast < BLANK}


def _contrast(look: Image.Image) -> float:
    grey = np.asarray(look.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    return float(grey.std() / 255)

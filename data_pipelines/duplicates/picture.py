"""Finds pictures that look the same: of another size or quality, brighter, or with slightly cropped edges.

Two 64-bit hashes find candidates: the signs of a DCT's lowest frequencies around their median (pHash, Zauner 2010), and
those of the differences between neighbours (dHash). A cut changes both, so each picture is hashed whole and with each
small cut. What two pictures have in common is then compared in colour.

Shape letters: V views of a picture, S side.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.media import UNREADABLE, open_picture
from tercet.data_pipelines.decode.still import rgb

SIDE, LOWEST, THUMB, LOOK = 32, 8, 16, 128
CUT = 0.03
VIEWS = (  # left, upper, right, lower: whole, less on all sides, less on one
    (0.0, 0.0, 1.0, 1.0),
    (CUT / 2, CUT / 2, 1 - CUT / 2, 1 - CUT / 2),
    (CUT, 0.0, 1.0, 1.0),
    (0.0, CUT, 1.0, 1.0),
    (0.0, 0.0, 1 - CUT, 1.0),
    (0.0, 0.0, 1.0, 1 - CUT),
)
ALIKE = 0.94  # correlation of thumbnails
PLAIN = 1.0  # deviation of a thumbnail's values under which there is nothing to compare

Hashes = NDArray[np.uint64]
_step = np.arange(SIDE)
COSINES = np.cos(np.pi / SIDE * np.outer(_step[:LOWEST], _step + 0.5)).astype(np.float32)
WEIGHTS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def look(data: bytes) -> Image.Image:
    """The picture pressed into a small square."""
    picture = open_picture(data)
    try:
        picture.draft("RGB", (LOOK, LOOK))
        return rgb(picture).resize((LOOK, LOOK), Image.Resampling.BOX)
    except UNREADABLE as error:
        raise BadSample("image: truncated or damaged") from error


def hashes(look: Image.Image) -> tuple[Hashes, Hashes]:
    """pHash and dHash of each view."""
    grey = look.convert("L")
    return perceptual(_views(grey, SIDE, SIDE)), _difference(_views(grey, LOWEST + 1, LOWEST))


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether some view of the one shows what some view of the other does."""
    return bool((_thumbs(one) @ _thumbs(other).T).max() >= ALIKE)


def perceptual(grey_VSS: NDArray[np.float32]) -> Hashes:
    """pHash of pictures of `SIDE` × `SIDE`."""
    low = (COSINES @ grey_VSS @ COSINES.T).reshape(len(grey_VSS), -1)
    low[:, 0] = -np.inf  # brightness
    return _packed(low > np.median(low[:, 1:], axis=1, keepdims=True))


def _difference(grey_V89: NDArray[np.float32]) -> Hashes:
    return _packed((grey_V89[:, :, 1:] > grey_V89[:, :, :-1]).reshape(len(VIEWS), -1))


def _packed(bits: NDArray[np.bool_]) -> Hashes:
    packed: Hashes = np.where(bits, WEIGHTS, np.uint64(0)).sum(1, dtype=np.uint64)
    return packed


def _thumbs(look: Image.Image) -> NDArray[np.float32]:
    """`[V, …]`, of which a product is a correlation. Brightness is taken out, and the colour of the whole is not."""
    colours = _views(look, THUMB, THUMB).reshape(len(VIEWS), -1, 3)
    centred = (colours - colours.mean((1, 2), keepdims=True)).reshape(len(VIEWS), -1)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    plain = colours.std(1).max(1, keepdims=True) < PLAIN
    thumbs: NDArray[np.float32] = np.where(plain, 0, centred / np.maximum(size, PLAIN))
    return thumbs


def _views(look: Image.Image, width: int, height: int) -> NDArray[np.float32]:
    boxes = ((LOOK * left, LOOK * upper, LOOK * right, LOOK * lower) for left, upper, right, lower in VIEWS)
    views = [np.asarray(look.resize((width, height), Image.Resampling.BOX, box), np.float32) for box in boxes]
    return np.stack(views)

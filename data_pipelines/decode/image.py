"""Decodes bytes to RGB pixels. The header is checked before anything is allocated.

Decoding a JPEG takes most of the time, so a picture that becomes much smaller is decoded at a half, a quarter or an
eighth. The crop must keep `SPARE` pixels for each pixel of the result: then a pretrained network cannot tell the
picture from one that was decoded at full size; with one pixel for each, it can. Random crops lie on whole pixels of the
decoded picture, also in the exact path, so that both show the same part. The central crop of evaluation is cut to a
fraction of a pixel, because half a pixel already shows in the features.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import fromarray

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.jpeg import opened_jpeg
from tercet.data_pipelines.decode.orientation import UPRIGHT, Rotation
from tercet.data_pipelines.decode.resize import Bounds, resized, resized_by_pillow
from tercet.data_pipelines.decode.still import opened_still
from tercet.data_pipelines.sample import ImageIntake
from tercet.data_pipelines.transforms.crop import Box, View

SPARE = 1.5


class Opened(Protocol):
    """A picture whose header was read."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as stored."""
        ...

    @property
    def turn(self) -> Rotation:
        """The rotation that makes it upright."""
        ...

    @property
    def reductions(self) -> tuple[int, ...]:
        """The factors by which it can be decoded smaller, ascending."""
        ...

    def pixels(self, reduction: int) -> NDArray[np.uint8]: ...


def decode_image(
    data: bytes, intake: ImageIntake, view: View, exact: bool = False, mask: bytes | None = None
) -> NDArray[np.uint8]:
    """The viewed part of a picture, antialiased to the intake's size: uint8 `[H, W, C]`.

    `exact`: decodes it at full size and resamples with Pillow, as open_clip does, in several times the time. `mask`:
    the file of the alpha channel, if the intake has one; without a file, it is 255 everywhere.
    """
    opened: Opened = opened_jpeg(data) or opened_still(data)
    turn = opened.turn
    box, size = _stored_box(opened.size, turn, intake, view), turn.size(intake.size)
    reduction = _reduction(box, size, opened.reductions)
    bounds = _bounds(box, opened.size, reduction)
    if exact:
        part = box if view.centred else _times(bounds, reduction)
        small_HWC = resized_by_pillow(opened_still(data).picture, part, size, intake.interpolation)
    elif view.centred:
        part = _times(box, 1 / reduction)
        small_HWC = resized_by_pillow(fromarray(opened.pixels(reduction)), part, size, intake.interpolation)
    else:
        own = turn == UPRIGHT and not intake.alpha
        paper = view.paper(size) if own else np.empty((*size, 3), np.uint8)
        small_HWC = resized(opened.pixels(reduction), bounds, paper, intake.interpolation)
    if intake.alpha:
        part = box if view.centred else _times(bounds, reduction)
        small_HWC = np.dstack([small_HWC, _alpha(mask, opened.size, part, size, intake, view.centred or exact)])
    return turn.upright(small_HWC)


def _alpha(
    mask: bytes | None, picture: tuple[int, int], part: Box, size: tuple[int, int], intake: ImageIntake, exact: bool
) -> NDArray[np.uint8]:
    """The same part of the mask, which must have the width and height of the stored picture."""
    if mask is None:
        return np.full(size, 255, dtype=np.uint8)
    opened = opened_still(mask)
    if opened.size != picture:
        raise BadSample("alpha: of another size than the picture")
    grey = opened.picture.convert("L")
    if exact:
        return resized_by_pillow(grey, part, size, intake.interpolation)
    left, upper, right, lower = map(round, part)
    paper = np.empty((*size, 1), np.uint8)
    return resized(np.array(grey)[..., None], (left, upper, right, lower), paper, intake.interpolation)


def _times(box: Box, factor: float) -> Box:
    return box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor


def _stored_box(stored: tuple[int, int], turn: Rotation, intake: ImageIntake, view: View) -> Box:
    """The box that the view draws on the upright picture, in coordinates of the stored picture."""
    upright, (height, width) = turn.size(stored), intake.size
    box = view.box(upright, upright if intake.resize == "squash" else (width, height))
    return turn.stored_box(box, upright)


def _reduction(box: Box, size: tuple[int, int], reductions: tuple[int, ...]) -> int:
    """The largest that leaves the crop enough pixels for a result of (height, width)."""
    spare = min((box[2] - box[0]) / size[1], (box[3] - box[1]) / size[0]) / SPARE
    return max((reduction for reduction in reductions if reduction <= spare), default=1)


def _bounds(box: Box, stored: tuple[int, int], reduction: int) -> Bounds:
    """The box in whole pixels of the reduced picture: at least one pixel, and within the picture."""
    left, right = _span(box[0], box[2], stored[0], reduction)
    upper, lower = _span(box[1], box[3], stored[1], reduction)
    return left, upper, right, lower


def _span(start: float, stop: float, length: int, reduction: int) -> tuple[int, int]:
    count = max(1, round((stop - start) / reduction))
    first = min(round(start / reduction), length // reduction - count)
    return max(0, first), min(max(0, first) + count, length // reduction)

"""Which part of a sample is looked at: a random part keyed by the sample while training, all of it at evaluation.

The training box is the random resized crop of Inception (Szegedy et al., 2015), with two departures. Its area is a
share of the largest box of the intake's shape that fits the picture, so that it always exists, whatever the picture's
shape. And the shape varies (3/4 to 4/3) only where crops may be smaller than half: near-whole crops stay undistorted.
There is no mirroring, because captions speak of left and right.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tercet.data_pipelines.keyed import keyed

Box = tuple[float, float, float, float]  # left, upper, right, lower, in pixels
WIDE = 0.5  # crops that may be smaller than this vary in shape too


class View(Protocol):
    """Chooses what is seen of a picture, heard of a sound and read of the captions."""

    def box(self, picture: tuple[int, int], size: tuple[int, int]) -> Box:
        """The part of a picture (width, height) that becomes the intake's size (width, height)."""
        ...

    def span(self, frames: int, window: int) -> tuple[int, int]:
        """First and last frame (exclusive) to read of a sound."""
        ...

    def captions(self, captions: tuple[str, ...]) -> tuple[str, ...]: ...


def largest_box(picture: tuple[int, int], aspect: float) -> tuple[float, float]:
    """Width and height of the largest box of this aspect that fits the picture."""
    width, height = picture
    return min(width, height * aspect), min(height, width / aspect)


def placed(picture: tuple[int, int], box: tuple[float, float], x: float, y: float) -> Box:
    """The box moved by a share (0 to 1) of the room that it leaves on either axis."""
    left, upper = x * (picture[0] - box[0]), y * (picture[1] - box[1])
    return left, upper, left + box[0], upper + box[1]


class CentreView:
    """Evaluation: shortest side to the intake's size, its centre; the whole clip; every caption."""

    def box(self, picture: tuple[int, int], size: tuple[int, int]) -> Box:
        return placed(picture, largest_box(picture, size[0] / size[1]), 0.5, 0.5)

    def span(self, frames: int, window: int) -> tuple[int, int]:
        return 0, frames

    def captions(self, captions: tuple[str, ...]) -> tuple[str, ...]:
        return captions


@dataclass(frozen=True)
class RandomView:
    """Training: a crop of the picture and of the clip, and one caption, keyed by seed, epoch and sample id.

    `area` is the range of shares that a crop of the picture keeps; None: the centre, as at evaluation.
    """

    seed: int
    epoch: int
    id: int
    area: tuple[float, float] | None

    def box(self, picture: tuple[int, int], size: tuple[int, int]) -> Box:
        if self.area is None:
            return CentreView().box(picture, size)
        x, y, share, shape = self._draw("picture").random(4).tolist()
        aspect = size[0] / size[1]
        if self.area[0] < WIDE:
            aspect *= math.exp((2 * shape - 1) * math.log(4 / 3))
        side = math.sqrt(self.area[0] + share * (self.area[1] - self.area[0]))
        width, height = largest_box(picture, aspect)
        return placed(picture, (side * width, side * height), x, y)

    def span(self, frames: int, window: int) -> tuple[int, int]:
        if frames <= window:
            return 0, frames
        start = int(self._draw("sound").integers(frames - window + 1))
        return start, start + window

    def captions(self, captions: tuple[str, ...]) -> tuple[str, ...]:
        if len(captions) < 2:
            return captions
        return (captions[int(self._draw("caption").integers(len(captions)))],)

    def _draw(self, purpose: str) -> np.random.Generator:
        return keyed(purpose, self.seed, self.epoch, self.id)

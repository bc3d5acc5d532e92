"""Which part of a sample is used: a random part, keyed by the sample, for training, and all of it for evaluation.

The training box is the random resized crop of Inception (Szegedy et al., 2015), with two departures. Its area is a
share of the largest box of the intake's shape that fits the picture, so that it always exists, whatever the picture's
shape. And the shape varies (3/4 to 4/3) only where crops may be smaller than half: near-whole crops stay undistorted.
It does not mirror, because captions mention left and right: that is an option of augmentation.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tercet.data_pipelines.captions.reader import Captions
from tercet.data_pipelines.seeding import draws_of, key_of, keyed, keys, uniforms

Box = tuple[float, float, float, float]  # left, upper, right, lower, in pixels
WIDE = 0.5  # crops that may be smaller than this vary in shape too


class View(Protocol):
    """Chooses the part of a picture, the part of a sound and the captions."""

    def box(self, picture: tuple[int, int], size: tuple[int, int]) -> Box:
        """The part of a picture (width, height) that becomes the intake's size (width, height)."""
        ...

    @property
    def centred(self) -> bool:
        """Whether it is the central crop, exact to a fraction of a pixel, as other projects evaluate."""
        ...

    def paper(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The array that receives a picture of (height, width): `[H, W, 3]`."""
        ...

    def span(self, frames: int, window: int) -> tuple[int, int]:
        """First and last frame (exclusive) to read of a sound."""
        ...

    def captions(self, captions: Captions) -> tuple[str, ...]: ...

    @property
    def caption(self) -> float:
        """A number from [0, 1) that chooses one of the captions of a place."""
        ...

    def of(self, field: str, row: int, area: tuple[float, float] | None) -> "View":
        """Another view of the same sample, for a row of a further field whose crops keep a share in this range."""
        ...

    def some(self, field: str, captions: Captions, count: int) -> tuple[tuple[str, float], ...]:
        """So many captions for the rows of a further field, with their numbers."""
        ...

    def dice(self, field: str) -> np.random.Generator:
        """Draws the captions of a further field."""
        ...

    def order(self, field: str, numbers: Collection[int]) -> list[int]:
        """The numbers, in the order in which rows of a further field are taken from a list."""
        ...


def largest_box(picture: tuple[int, int], aspect: float) -> tuple[float, float]:
    """Width and height of the largest box of this aspect that fits the picture."""
    width, height = picture
    return min(width, height * aspect), min(height, width / aspect)


def placed(picture: tuple[int, int], box: tuple[float, float], x: float, y: float) -> Box:
    """The box moved by a share (0 to 1) of the free space on either axis."""
    left, upper = x * (picture[0] - box[0]), y * (picture[1] - box[1])
    return left, upper, left + box[0], upper + box[1]


class CentreView:
    """Evaluation: shortest side to the intake's size, its centre; the whole clip; every caption."""

    centred = True

    def box(self, picture: tuple[int, int], size: tuple[int, int]) -> Box:
        """The central crop of the resized picture, both rounded to whole pixels as in torchvision."""
        (wide, high), (width, height) = picture, size
        narrow = wide * height <= high * width
        whole = (width, int(width * high / wide)) if narrow else (int(height * wide / high), height)
        left, upper = round((whole[0] - width) / 2), round((whole[1] - height) / 2)
        across, down = wide / whole[0], high / whole[1]
        return left * across, upper * down, (left + width) * across, (upper + height) * down

    def paper(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.empty((*size, 3), np.uint8)

    def span(self, frames: int, window: int) -> tuple[int, int]:
        return 0, frames

    def captions(self, captions: Captions) -> tuple[str, ...]:
        return captions.all

    @property
    def caption(self) -> float:
        return 0.0

    def of(self, field: str, row: int, area: tuple[float, float] | None) -> "CentreView":
        return self

    def some(self, field: str, captions: Captions, count: int) -> tuple[tuple[str, float], ...]:
        return captions.in_order[:count]

    def dice(self, field: str) -> np.random.Generator:
        return keyed(f"captions {field}", 0)

    def order(self, field: str, numbers: Collection[int]) -> list[int]:
        return sorted(numbers)


@dataclass(frozen=True)
class RandomView:
    """Training: a crop of the picture and of the clip, and one caption.

    `area`: the range of the share of the picture in a crop; None: the central crop, as at evaluation. `key` seeds all
    other draws for the sample in this epoch. `canvas`: the array of the picture in a batch.
    """

    draws: Sequence[float]  # from [0, 1): four of the box, one of the span, two of the caption
    key: int
    area: tuple[float, float] | None
    canvas: NDArray[np.uint8] | None = None

    @property
    def centred(self) -> bool:
        return self.area is None

    def box(self, picture: tuple[int, int], size: tuple[int, int]) -> Box:
        if self.area is None:
            return CentreView().box(picture, size)
        x, y, share, shape = self.draws[:4]
        aspect = size[0] / size[1]
        if self.area[0] < WIDE:
            aspect *= math.exp((2 * shape - 1) * math.log(4 / 3))
        side = math.sqrt(self.area[0] + share * (self.area[1] - self.area[0]))
        width, height = largest_box(picture, aspect)
        return placed(picture, (side * width, side * height), x, y)

    def paper(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.empty((*size, 3), np.uint8) if self.canvas is None else self.canvas

    def span(self, frames: int, window: int) -> tuple[int, int]:
        if frames <= window:
            return 0, frames
        start = int(self.draws[4] * (frames - window + 1))
        return start, start + window

    def captions(self, captions: Captions) -> tuple[str, ...]:
        return (captions.pick(self.draws[5], self.caption),)

    @property
    def caption(self) -> float:
        return self.draws[6]

    def of(self, field: str, row: int, area: tuple[float, float] | None) -> "RandomView":
        purpose = f"{field} {row}"
        draws, key = draws_of(f"view {purpose}", self.key, 7), key_of(f"augment {purpose}", self.key)
        return RandomView(draws, key, area or self.area)

    def some(self, field: str, captions: Captions, count: int) -> tuple[tuple[str, float], ...]:
        """All of them are equally likely, and none is drawn twice."""
        return captions.some(count, self.dice(field))

    def dice(self, field: str) -> np.random.Generator:
        return keyed(f"captions {field}", self.key)

    def order(self, field: str, numbers: Collection[int]) -> list[int]:
        shuffled: list[int] = keyed(f"files {field}", self.key).permutation(sorted(numbers)).tolist()
        return shuffled


def caption_shares(source: str, seed: int, epochs: ArrayLike, ids: ArrayLike) -> NDArray[np.float64]:
    """`RandomView.caption` of these samples, without the views."""
    share_n: NDArray[np.float64] = uniforms(f"view {source}", seed, epochs, ids, 7)[:, 6]
    return share_n


def random_views(
    source: str, seed: int, epochs: Sequence[int], ids: Sequence[int], area: tuple[float, float] | None
) -> list[RandomView]:
    """The views of these samples of a source in these epochs of it."""
    draws = uniforms(f"view {source}", seed, epochs, ids, 7).tolist()
    return [
        RandomView(row, key, area)
        for row, key in zip(draws, keys(f"augment {source}", seed, epochs, ids).tolist(), strict=True)
    ]


def stored_views(
    seed: int, numbers: Sequence[int], ids: Sequence[int], area: tuple[float, float] | None
) -> list[RandomView]:
    """The views with these numbers of these samples. All that is random about a view follows from its `key`."""
    key_N = keys("stored view", seed, numbers, ids)
    draws = uniforms("draws of a stored view", seed, 0, key_N, 7).tolist()
    return [RandomView(row, key, area) for row, key in zip(draws, key_N.tolist(), strict=True)]

"""Augments pictures: mirrors, changes colours, blurs.

Colour jitter and greyscale follow SimCLR (Chen et al., 2020), blur and solarisation BYOL (Grill et al., 2020), with
Pillow's operations, which torchvision's transforms call on pictures; the blur is Pillow's too, as in DINO, at a tenth
of the time of torchvision's. RandAugment (Cubuk et al., 2020) is timm's. Each change draws by the key of the sample and
its own name: the same key gives the same pixels, and a change does not influence the draws of the others.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tercet.data_pipelines.seeding import draws_of
from tercet.data_pipelines.transforms.config import ImageAugment

Picture = Image.Image
Draws = list[float]  # from [0, 1)
Change = Callable[[Draws, Picture], Picture]

BRIGHT = 128  # values from here on are inverted by solarising
ORDERS = tuple(permutations(range(4)))


class ImageAugmenter:
    """Augments a picture, uint8 `[H, W, 3]`, by its 64-bit key. A fourth channel is a mask: it moves with the picture,
    and keeps its values."""

    def __init__(self, config: ImageAugment) -> None:
        self._chances = [chance for chance in _chances(config) if chance.share > 0]
        self._full_alpha = Chance("full alpha", config.full_alpha, _covered)

    def __call__(self, picture_HWC: NDArray[np.uint8], key: int) -> NDArray[np.uint8]:
        due = [(chance.moves, change) for chance in self._chances if (change := chance.drawn(key))]
        if picture_HWC.shape[2] > 3:
            mask = Image.fromarray(np.ascontiguousarray(picture_HWC[..., 3]))
            covers = self._full_alpha.drawn(key)
            moved = _after(mask, [*([covers] if covers else []), *(change for moves, change in due if moves)])
            picture = Image.fromarray(np.ascontiguousarray(picture_HWC[..., :3]))
            return np.dstack([np.array(_after(picture, [change for _, change in due])), np.array(moved)])
        return np.array(_after(Image.fromarray(picture_HWC), [change for _, change in due])) if due else picture_HWC


def _after(picture: Picture, changes: Iterable[Callable[[Picture], Picture]]) -> Picture:
    for change in changes:
        picture = change(picture)
    return picture


@dataclass(frozen=True)
class Chance:
    """A change to a share of the pictures, and how many further draws it needs. `moves`: it moves pixels."""

    name: str
    share: float
    change: Change
    draws: int = 0
    moves: bool = False

    def drawn(self, key: int) -> Callable[[Picture], Picture] | None:
        """The change of the picture with this key, or none."""
        chance, *draws = draws_of(self.name, key, 1 + self.draws)
        return partial(self.change, draws) if chance < self.share else None


def _chances(config: ImageAugment) -> Iterator[Chance]:
    yield Chance("flip", config.flip, _mirrored, moves=True)
    if config.randaugment:
        yield Chance("randaugment", 1.0, RandAugment(config.randaugment), draws=1)
    yield Chance("jitter", config.jitter, partial(_jittered, config.jitter_strength), draws=5)
    yield Chance("grey", config.grey, _greyed)
    yield Chance("blur", config.blur, partial(_blurred, config.blur_sigma), draws=1)
    yield Chance("solarise", config.solarise, _solarised)


def _covered(draws: Draws, mask: Picture) -> Picture:
    return Image.new(mask.mode, mask.size, 255)


def _mirrored(draws: Draws, picture: Picture) -> Picture:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _jittered(strengths: tuple[float, ...], draws: Draws, picture: Picture) -> Picture:
    """Brightness, contrast, saturation and hue shifted by up to their strengths, in any order."""
    *amounts, order = draws
    for place in ORDERS[int(order * len(ORDERS))]:
        if strengths[place]:
            picture = SHIFTS[place](picture, strengths[place] * (2 * amounts[place] - 1))
    return picture


def _greyed(draws: Draws, picture: Picture) -> Picture:
    return picture.convert("L").convert("RGB")


def _blurred(sigma: tuple[float, float], draws: Draws, picture: Picture) -> Picture:
    return picture.filter(ImageFilter.GaussianBlur(sigma[0] + draws[0] * (sigma[1] - sigma[0])))


def _solarised(draws: Draws, picture: Picture) -> Picture:
    return ImageOps.solarize(picture, BRIGHT)


def _enhanced(kind: Callable[[Picture], ImageEnhance._Enhance], picture: Picture, by: float) -> Picture:
    return kind(picture).enhance(1 + by)


def _turned(picture: Picture, by: float) -> Picture:
    """Hues shifted by a share of the colour circle."""
    hue, saturation, value = picture.convert("HSV").split()
    moved = hue.point([(step + int(255 * by)) % 256 for step in range(256)])
    return Image.merge("HSV", (moved, saturation, value)).convert("RGB")


SHIFTS = (
    partial(_enhanced, ImageEnhance.Brightness),
    partial(_enhanced, ImageEnhance.Contrast),
    partial(_enhanced, ImageEnhance.Color),
    _turned,
)


class RandAugment:
    """timm's RandAugment, which draws from the global generators of `random` and NumPy; these are restored after."""

    def __init__(self, policy: str) -> None:
        from timm.data.auto_augment import rand_augment_transform  # imports all of timm, which most runs do not need

        self._policy = rand_augment_transform(policy)

    def __call__(self, draws: Draws, picture: Picture) -> Picture:
        with _seeded(int(draws[0] * 2**32)):
            changed: Picture = self._policy(picture)
        return changed


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators and restores them: correct only in a process of one thread."""
    standard, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(standard)
        np.random.set_state(numpy)

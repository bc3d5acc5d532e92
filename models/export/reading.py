"""What another library makes of an exported folder, to compare with what tercet makes of the model.

Shape letters: n samples, D the width of the joint space.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

TEXTS = ("a red boat on a lake", "two dogs", "The bell rings twice, then a car passes by.")
RATE = 48_000


@dataclass(frozen=True)
class Reading:
    """Unit vectors `[n, D]` by modality, and the temperature and bias of the logits, where the format has one."""

    vectors: Mapping[str, Tensor]
    scale: float | None = None
    bias: float | None = None


@dataclass(frozen=True)
class Samples:
    """A few inputs of each modality, always the same ones.

    The pictures are square. Of others, tercet resizes only the central part, where other libraries resize all and then
    crop, so that some bytes are rounded differently.
    """

    image: list[Image.Image] = field(default_factory=lambda: _pictures(3))
    text: list[str] = field(default_factory=lambda: list(TEXTS))
    audio: list[tuple[NDArray[np.float32], int]] = field(default_factory=lambda: _sounds(3))

    def of(self, modality: str) -> list[object]:
        return list(getattr(self, modality, ()))


def _pictures(count: int) -> list[Image.Image]:
    """Smooth waves of colour, and a disc."""
    y, x = np.mgrid[:1:200j, :1:200j]
    found = []
    for place in range(count):
        waves = [np.sin((3 + place) * x + phase) * np.cos((5 - place) * y) for phase in (0.0, 1.0, 2.0)]
        disc = ((x - 0.3 - 0.2 * place) ** 2 + (y - 0.5) ** 2 < 0.04)[..., None]
        pixels = 255 * np.where(disc, 0.9, 0.5 + 0.4 * np.stack(waves, -1))
        found.append(Image.fromarray(pixels.astype(np.uint8)))
    return found


def _sounds(count: int) -> list[tuple[NDArray[np.float32], int]]:
    """Tones that rise, with some noise."""
    time = np.arange(RATE) / RATE
    noise = 1e-3 * np.random.default_rng(0).standard_normal(RATE)
    tones = [0.3 * np.sin(2 * np.pi * 300 * (place + 1) * time * (1 + time)) + noise for place in range(count)]
    return [(tone.astype(np.float32), RATE) for tone in tones]

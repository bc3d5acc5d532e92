"""Axes of plots: round ticks, short labels, the position of a value, and the area between the margins."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


def ticks(low: float, high: float, about: int) -> list[float]:
    """Two or more round values from at most `low` to at least `high`, 1, 2 or 5 times a power of ten apart."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * about >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def labels(values: Sequence[float]) -> list[str]:
    """The labels of ticks, with as many digits as their distance needs."""
    largest, step = max(map(abs, values)), values[1] - values[0]
    digits = 1 + math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-6)
    return [words(value, max(digits, 3)) for value in values]


def words(value: float, digits: int = 3) -> str:
    """A number with this many digits or one more; from 10,000 on in k, M or G."""
    if 1e3 <= abs(value) < 1e4:
        return f"{value:,.{digits - 3}f}"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / min(limit, 1e3 if letter == 'k' else limit):.{digits + 1}g}{letter}"
    return f"{value:.{digits}g}".replace("e-0", "e-")


def scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """Maps values from `low` to `high` onto the length from `start` to `stop`."""
    span = high - low or 1.0
    return lambda value: round(start + (value - low) / span * (stop - start), 1)


@dataclass(frozen=True)
class Area:
    """The size of a plot, and its margins."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom edge of the axes."""
        return self.left, self.top, self.width - self.right, self.height - self.bottom

    def across(self, low: float, high: float) -> Callable[[float], float]:
        """Maps values onto the horizontal axis."""
        return scale(low, high, self.left, self.width - self.right)

    def up(self, low: float, high: float) -> Callable[[float], float]:
        """Maps values onto the vertical axis."""
        return scale(low, high, self.height - self.bottom, self.top)

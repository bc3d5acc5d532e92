"""Joins two sounds: one after the other, or both at once.

Shape letters: T audio samples of the first sound, U of the second.
"""

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]


def then(a_T: Wave, b_U: Wave, gap: int, fade: int) -> Wave:
    """The first sound, `gap` samples of silence, and the second; `fade` samples at the joint fade out and in."""
    first_T, second_U = a_T.copy(), b_U.copy()
    down, up = min(fade, len(a_T)), min(fade, len(b_U))
    first_T[len(a_T) - down :] *= _ramp(down)[::-1]
    second_U[:up] *= _ramp(up)
    return np.concatenate([first_T, np.zeros(gap, np.float32), second_U])


def at_once(a_T: Wave, b_U: Wave, level: float | None, place: float) -> Wave:
    """The sum of both; the shorter one starts at a share `place` of the time that is left.

    `level`: decibels of the second below the first; None: as they are. A silent sound stays as it is.
    """
    powers = [float(np.mean(np.square(wave, dtype=np.float64))) for wave in (a_T, b_U)]
    factor = 1.0
    if level is not None and all(powers):
        factor = (powers[0] / powers[1]) ** 0.5 * 10 ** (-level / 20)
    sum_T = np.zeros(max(len(a_T), len(b_U)), np.float32)
    for wave, gain in ((a_T, 1.0), (b_U, factor)):
        start = int(place * (len(sum_T) - len(wave)))
        sum_T[start : start + len(wave)] += np.float32(gain) * wave
    return sum_T


def _ramp(length: int) -> Wave:
    """Rises from just above 0 to just below 1."""
    return ((np.arange(length) + 0.5) / max(length, 1)).astype(np.float32)

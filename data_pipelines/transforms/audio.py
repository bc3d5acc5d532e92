"""Augments training sounds: mixing with another, noise, gain, and masks over the log-mel spectrogram.

Every draw depends on the 64-bit key of the sample, and so is the same at any world size. The masks are those of
SpecAugment (Park et al., 2019) without its time warping, whose gain they found small. They are drawn here, are part of
the batch as shares of the spectrogram, and are applied by the front end, so that two passes over a batch use the same.

Shape letters: T audio samples, K masks.
"""

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.transforms.config import AudioAugment

Wave = NDArray[np.float32]


class AudioAugmenter:
    """Draws for one sample at a time. Unused draws are made, too, so that options do not change each other's draws."""

    def __init__(self, config: AudioAugment) -> None:
        self.config = config

    def partner(self, key: int, id: int, count: int) -> int | None:
        """The sample, of `count` in the source, that this one is mixed with, if any."""
        chance, which = keyed("partner", key).random(2).tolist()
        return (id + 1 + int(which * (count - 1))) % count if chance < self.config.mix and count > 1 else None

    def __call__(self, wave_T: Wave, key: int, other_T: Wave | None = None) -> Wave:
        """The augmented sound; `other_T` is the sound of its partner."""
        draw, config = keyed("wave", key), self.config
        mix, noise, gain = draw.random(3).tolist()
        if other_T is not None:
            wave_T = mixed(wave_T, other_T, _between(config.mix_snr, mix))
        if config.noise:
            wave_T = mixed(wave_T, draw.standard_normal(len(wave_T), np.float32), _between(config.noise, noise))
        if config.gain:
            wave_T = wave_T * np.float32(10 ** (_between(config.gain, gain) / 20))
        return wave_T

    def masks(self, key: int) -> NDArray[np.float32]:
        """`[K, 4]`: first and last share of the bands, and of the frames of the clip; see `covered`."""
        config = self.config
        bands, frames = config.frequency_masks, config.time_masks
        width, start = keyed("masks", key).random((2, bands + frames))
        width *= np.repeat([config.frequency_share, config.time_share], [bands, frames])
        start *= 1 - width
        masks_K4: NDArray[np.float32] = np.tile(np.array([0, 1, 0, 1], np.float32), (bands + frames, 1))
        masks_K4[:bands, 0], masks_K4[:bands, 1] = start[:bands], (start + width)[:bands]
        masks_K4[bands:, 2], masks_K4[bands:, 3] = start[bands:], (start + width)[bands:]
        return masks_K4


def mixed(wave_T: Wave, other_T: Wave, snr: float) -> Wave:
    """The wave mixed with another one, so many decibels below it, for the length of the shorter; not with silence."""
    heard = min(len(wave_T), len(other_T))
    own, foreign = _power(wave_T), _power(other_T[:heard])
    scale = np.sqrt(own / foreign) * 10 ** (-snr / 20) if foreign > 0 else 0.0
    sum_T: Wave = wave_T.copy()
    sum_T[:heard] += np.float32(scale) * other_T[:heard]
    return sum_T


def _power(wave_T: Wave) -> float:
    return float(np.dot(wave_T, wave_T)) / len(wave_T)


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])

"""Finds sounds that sound the same: of another codec, rate or loudness, or a part of one in the other.

The fingerprint of Haitsma and Kalker (2002): for every moment 32 bits that say where energy rises and falls, over bands
and over time. Words that differ in a bit at most find candidates and how far the two are apart, and the share of bits
that differ decides. Here the bands reach further, because not all sound is music, and moments near silence say nothing.

Shape letters: F frames, B bands, N frames of all known sounds, P pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.media import open_sound
from tercet.data_pipelines.decode.passage import passage
from tercet.data_pipelines.decode.resample import resampler
from tercet.data_pipelines.duplicates.near import ONES, spread
from tercet.data_pipelines.duplicates.picture import SIDE, perceptual

RATE, WINDOW, HOP, BANDS = 8000, 2048, 128, 33
LOWEST_HERTZ, HIGHEST_HERTZ = 100.0, 3500.0
SILENT = 1e-5  # of the loudest moment's energy
FEWEST = 24  # moments in common: with the window two thirds of a second
MARGIN = 2.0  # bits may differ in a share that is below chance by more than MARGIN / √moments
DIFFERENT = 0.33  # and never in a larger one
STRETCH = 1024  # frames whose spectra are held at once: those of an hour take gigabytes

Words = NDArray[np.uint32]  # [F]; 0: silence
_edges = np.geomspace(LOWEST_HERTZ, HIGHEST_HERTZ, BANDS + 1) * WINDOW / RATE
EDGES = np.round(_edges).astype(np.int64)
HANN = np.hanning(WINDOW).astype(np.float32)
BITS = np.uint32(1) << np.arange(BANDS - 1, dtype=np.uint32)
SLIPS = np.concatenate([np.zeros(1, np.uint32), BITS])  # a word as it is, and with each of its bits wrong


@dataclass(frozen=True)
class Heard:
    """The fingerprint of a sound, word by word, and the pHash of its spectrogram, from its start to its end.

    A sound that is shorter than a window has neither, and silence has no pHash.
    """

    words: Words
    shape: int | None


def heard(data: bytes) -> Heard:
    energy_FB = _spectrogram(data)
    return Heard(_words(energy_FB), _shape(energy_FB)) if len(energy_FB) else Heard(np.empty(0, np.uint32), None)


def words(data: bytes) -> Words:
    return heard(data).words


def _spectrogram(data: bytes) -> NDArray[np.float64]:
    """The energies of all moments. None, if the sound is shorter than a window."""
    with open_sound(data) as sound:
        wave = passage(sound, data, 0, sound.frames).mean(1)
        rate = sound.samplerate
    resample = resampler(rate, RATE)
    wave = resample(wave, 0, 0, resample.length(len(wave)))
    if len(wave) < WINDOW + HOP:
        return np.empty((0, BANDS))
    if not np.isfinite(wave).all():
        raise BadSample("audio: not finite")
    frames = sliding_window_view(wave, WINDOW)[::HOP]
    stretches = (frames[start : start + STRETCH] for start in range(0, len(frames), STRETCH))
    return np.concatenate([_energies(stretch) for stretch in stretches])


def _energies(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    power = np.abs(np.fft.rfft(frames * HANN)) ** 2
    energies: NDArray[np.float64] = np.add.reduceat(power, EDGES, axis=1)[:, :BANDS]
    return energies


def _words(energy_FB: NDArray[np.float64]) -> Words:
    rises = np.diff(np.diff(energy_FB, axis=1), axis=0) > 0
    word_F = np.where(rises, BITS, np.uint32(0)).sum(1, dtype=np.uint32)
    total_F = energy_FB.sum(1)[1:]
    heard: Words = np.where(total_F > SILENT * total_F.max(), np.maximum(word_F, 1), 0).astype(np.uint32)
    return heard


def _shape(energy_FB: NDArray[np.float64]) -> int | None:
    loudest = energy_FB.sum(1).max()
    if loudest <= 0:
        return None
    level_FB = np.log(energy_FB / loudest + SILENT).astype(np.float32)
    level_SS = np.asarray(Image.fromarray(level_FB).resize((SIDE, SIDE), Image.Resampling.BOX))
    return int(perceptual(level_SS[None])[0])


class Known:
    """Finds those of its sounds that another one shares a stretch with."""

    def __init__(self, sounds: Sequence[Words]) -> None:
        self._sounds = sounds
        word_N = np.concatenate([np.empty(0, np.uint32), *sounds])
        self._order_N = np.argsort(word_N, kind="stable")
        self._sorted_N = word_N[self._order_N]
        self._first = np.cumsum([0, *map(len, sounds)])

    def shared(self, word_F: Words) -> list[int]:
        """Numbers of the known sounds that it shares a stretch with."""
        heard_F = np.flatnonzero(word_F)
        asked = (word_F[heard_F, None] ^ SLIPS).ravel()
        asked_P, known_P = spread(self._sorted_N, self._order_N, asked)
        which_P = np.searchsorted(self._first, known_P, side="right") - 1
        shift_P = known_P - self._first[which_P] - heard_F[asked_P // len(SLIPS)]
        candidates = np.unique(np.stack([which_P, shift_P]), axis=1).T.tolist()
        return sorted({which for which, shift in candidates if agree(self._sounds[which], word_F, shift)})


def agree(one_F: Words, other_F: Words, shift: int) -> bool:
    """Whether two sounds are the same for as long as both last, the other one beginning `shift` moments later."""
    stop = min(len(one_F), len(other_F) + shift)
    own, others = one_F[max(shift, 0) : stop], other_F[max(-shift, 0) : stop - shift]
    heard = (own != 0) & (others != 0)
    moments = int(heard.sum())
    if moments < FEWEST:
        return False
    differ = ONES[(own ^ others)[heard][:, None].view(np.uint8)].sum() / (moments * (BANDS - 1))
    return bool(differ <= min(DIFFERENT, 0.5 - MARGIN / math.sqrt(moments)))

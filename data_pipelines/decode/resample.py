"""Resamples waveforms by a windowed sinc whose kernel is computed once for each pair of rates.

The sinc and its window are those of torchaudio (`sinc_interp_hann`), and so is the result. Each output depends on the
frames around it alone, and a product of matrices computes many outputs at once. Any part of the resampled clip can be
computed from the frames around it, and is exact up to its ends.

Shape letters: B blocks, G groups of a block, P outputs of a group, K taps, T frames.
"""

import math
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

CROSSINGS = 6  # zero crossings of the sinc on either side
ROLLOFF = 0.99  # cutoff, as a share of the lower of the two Nyquist frequencies
MOST_OUTPUTS = 32  # of a group: more share a product, but each meets more taps that are zero
BLOCK = 128  # outputs of a block at least; in shorter ones a group's taps outgrow the block, and BLAS needs a copy

Wave = NDArray[np.float32]


class Resampler(Protocol):
    """Any part of a clip at another rate, from the frames that the part depends on."""

    def length(self, frames: int) -> int:
        """The number of outputs of a clip of so many frames."""
        ...

    def frames(self, start: int, stop: int) -> tuple[int, int]:
        """First and last frame (exclusive) that these outputs depend on; they may lie outside the clip."""
        ...

    def __call__(self, wave_T: Wave, first: int, start: int, stop: int) -> Wave:
        """Outputs `start` to `stop` from frames that begin with `first`; outside of the clip is silence."""
        ...


class SameRate:
    """For equal rates: returns the frames."""

    def length(self, frames: int) -> int:
        return frames

    def frames(self, start: int, stop: int) -> tuple[int, int]:
        return start, stop

    def __call__(self, wave_T: Wave, first: int, start: int, stop: int) -> Wave:
        return wave_T[start - first : stop - first]


class SincResampler:
    """A block is a stretch after which outputs and frames coincide again, so that all blocks have the same taps."""

    def __init__(self, rate: int, target: int) -> None:
        self.rate, self.target = rate, target
        common = math.gcd(rate, target)
        repeats = -(-BLOCK * common // target)
        self._outputs, self._frames = target // common * repeats, rate // common * repeats
        cutoff = ROLLOFF * min(1.0, target / rate)  # as a share of the source's own Nyquist frequency
        self._reach = math.ceil(CROSSINGS / cutoff)
        self._first_G, self._taps_GKP = self._kernel(cutoff)

    def length(self, frames: int) -> int:
        return -(-frames * self.target // self.rate)

    def frames(self, start: int, stop: int) -> tuple[int, int]:
        first, last = start * self.rate // self.target, (stop - 1) * self.rate // self.target
        return first - self._reach, last + self._reach + 2

    def __call__(self, wave_T: Wave, first: int, start: int, stop: int) -> Wave:
        block = start // self._outputs
        blocks = -(-stop // self._outputs) - block
        ahead = first - block * self._frames + self._reach
        padded_T = np.zeros(blocks * self._frames + self._taps_GKP.shape[1], np.float32)
        padded_T[ahead : ahead + len(wave_T)] = wave_T
        output_BGP = np.empty((blocks, len(self._first_G), self._taps_GKP.shape[2]), np.float32)
        for group, (offset, taps_KP) in enumerate(zip(self._first_G, self._taps_GKP, strict=True)):
            np.matmul(self._windows(padded_T[offset:], blocks), taps_KP, out=output_BGP[:, group])
        skipped = block * self._outputs
        return output_BGP.reshape(-1)[start - skipped : stop - skipped]

    def _windows(self, wave_T: Wave, blocks: int) -> Wave:
        """`[B, K]`: the frames that a group needs in each block, without a copy."""
        (step,) = wave_T.strides
        shape = blocks, self._taps_GKP.shape[1]
        return as_strided(wave_T, shape, (self._frames * step, step), writeable=False)

    def _kernel(self, cutoff: float) -> tuple[NDArray[np.int64], Wave]:
        """For each group the first frame it needs, counted from the block's start less the reach, and its taps."""
        outputs = max(count for count in range(1, MOST_OUTPUTS + 1) if self._outputs % count == 0)
        place_GP = np.arange(self._outputs).reshape(-1, outputs) * self._frames / self._outputs
        first_G = np.floor(place_GP[:, 0]).astype(np.int64)
        taps = 2 * self._reach + 2 + (outputs - 1) * self._frames // self._outputs
        frame_GK = first_G[:, None] - self._reach + np.arange(taps)
        crossing_GKP = cutoff * (frame_GK[:, :, None] - place_GP[:, None, :])
        window_GKP = np.where(abs(crossing_GKP) < CROSSINGS, np.cos(np.pi / 2 / CROSSINGS * crossing_GKP) ** 2, 0.0)
        return first_G, (cutoff * np.sinc(crossing_GKP) * window_GKP).astype(np.float32)


@lru_cache(maxsize=32)
def resampler(rate: int, target: int) -> Resampler:
    return SameRate() if rate == target else SincResampler(rate, target)

"""Measures a voice by plain signal processing.

The features are those of ParaCLAP (Jing et al. 2024), who take them from openSMILE's eGeMAPS. Here they are computed
from their definitions, so numbers differ from openSMILE's. Pitch is the peak of the normalised autocorrelation of a
frame (Boersma 1993). In voiced passages, the shift by which a cycle is most like the next one is its period, and its
highest point its amplitude.

Shape letters: T samples, W samples of a frame, F frames, L lags, C cycles.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Array = NDArray[np.float64]

RATE = 16_000
LOWEST, HIGHEST = 60.0, 500.0  # hertz
FRAME, HOP = 0.05, 0.01  # seconds: three cycles of the lowest voice
VOICED = 0.45  # least autocorrelation
AUDIBLE = 0.03  # least RMS of a voiced frame, as a share of the loudest one
OCTAVE = 0.1  # what an octave lower costs, so that no multiple of the period is taken
REACH = 0.2  # how much a period may differ from that of the frame
MOST_JITTER, MOST_SHIMMER = 1.3, 1.6  # ratios of neighbouring cycles; the limits are those of Praat
QUIETEST = 1e-6  # RMS


def measure(wave_T: Wave, rate: int = RATE) -> dict[str, float]:
    """`seconds` and `loudness` and, where there is a voice, its pitch, jitter and shimmer.

    `loudness` is in dB of full scale, `pitch` in hertz, and `pitch_variation` the deviation of the pitch over its mean.
    `jitter` is the mean difference of neighbouring periods, as a share of them, `shimmer` that of neighbouring
    amplitudes in dB. Ratios too large for a voice are left out: they come from mistakes, or from the end of a sound.
    """
    rms = math.sqrt(float(np.square(wave_T, dtype=np.float64).mean())) if len(wave_T) else 0.0
    found = {"seconds": len(wave_T) / rate, "loudness": 20 * math.log10(max(rms, QUIETEST))}
    pitch_F = pitches(wave_T, rate)
    voiced_F = pitch_F > 0
    if not voiced_F.any():
        return found
    mean = float(pitch_F[voiced_F].mean())
    found |= {"pitch": mean, "pitch_variation": float(pitch_F[voiced_F].std()) / mean}
    passages = [cycles(wave_T, rate, pitch_F, *passage) for passage in _passages(voiced_F)]
    jumps = np.concatenate([_steps(period_C, MOST_JITTER) for period_C, _ in passages])
    steps = np.concatenate([_steps(height_C, MOST_SHIMMER) for _, height_C in passages])
    found |= {"jitter": float(jumps.mean())} if len(jumps) else {}
    return found | ({"shimmer": 20 / math.log(10) * float(steps.mean())} if len(steps) else {})


def pitches(wave_T: Wave, rate: int) -> Array:
    """The pitch of each frame `[F]` in hertz; 0 for frames without a voice."""
    size, hop = round(FRAME * rate), round(HOP * rate)
    if len(wave_T) < size:
        return np.zeros(0)
    frames_FW = np.lib.stride_tricks.sliding_window_view(wave_T.astype(np.float64), size)[::hop]
    frames_FW = frames_FW - frames_FW.mean(1, keepdims=True)
    rms_F = np.sqrt(np.square(frames_FW).mean(1))
    window_W = np.hanning(size)
    first, last = int(rate / HIGHEST), min(math.ceil(rate / LOWEST), size - 2)
    heights_FL = _autocorrelation(frames_FW * window_W) / _autocorrelation(window_W[None])
    lag_L = np.arange(first, last + 1)
    cost_L = OCTAVE * np.log2(lag_L / first)
    middle_FL = heights_FL[:, first : last + 1]
    is_peak_FL = (middle_FL >= heights_FL[:, first - 1 : last]) & (middle_FL >= heights_FL[:, first + 1 : last + 2])
    best_F = first + np.argmax(np.where(is_peak_FL, middle_FL - cost_L, -np.inf), 1)
    row_F = np.arange(len(frames_FW))
    before, at, after = (heights_FL[row_F, best_F + step] for step in (-1, 0, 1))
    voiced_F = is_peak_FL[row_F, best_F - first] & (at > VOICED) & (rms_F > AUDIBLE * max(float(rms_F.max()), QUIETEST))
    pitch_F = np.where(voiced_F, rate / (best_F + _vertex(before, at, after)), 0.0)
    padded_F = np.pad(pitch_F, 1)
    median_F: Array = np.median([padded_F[:-2], pitch_F, padded_F[2:]], axis=0)  # one frame alone is not a voice
    return median_F


def cycles(wave_T: Wave, rate: int, pitch_F: Array, start: int, stop: int) -> tuple[Array, Array]:
    """The periods in samples and the heights of the cycles of a voiced passage, which is given as frames.

    A period is the shift by which a cycle is most like the next one.
    """
    hop, size = round(HOP * rate), round(FRAME * rate)
    passage_T = wave_T[start * hop : (stop - 1) * hop + size].astype(np.float64)
    if -passage_T.min() > passage_T.max():
        passage_T = -passage_T
    periods: list[float] = []
    heights: list[float] = []
    place = int(np.argmax(passage_T[: round(rate / pitch_F[start])]))
    while True:
        usual = rate / pitch_F[min(start + max(0, place - size // 2) // hop, stop - 1)]
        first, last, half = math.floor((1 - REACH) * usual), math.ceil((1 + REACH) * usual), round(usual / 2)
        begin = max(place - half, 0)
        cycle_W = passage_T[begin : begin + 2 * half]
        later_T = passage_T[begin + first - 1 : begin + last + 1 + 2 * half]
        heights.append(float(cycle_W.max()))
        if len(later_T) < last - first + 2 + 2 * half:
            return np.array(periods), np.maximum(heights, QUIETEST)
        later_LW = np.lib.stride_tricks.sliding_window_view(later_T, 2 * half)
        likeness_L = later_LW @ cycle_W / np.maximum(np.sqrt(np.square(later_LW).sum(1)), QUIETEST)
        best = 1 + int(np.argmax(likeness_L[1:-1]))
        period = first - 1 + best + float(_vertex(*likeness_L[best - 1 : best + 2]))
        periods.append(period)
        place += round(period)


def _steps(values_C: Array, most: float) -> Array:
    """The logarithms of the ratios of neighbouring values, without those of larger ratios than `most`."""
    steps_C: Array = np.abs(np.diff(np.log(values_C)))
    return steps_C[steps_C <= math.log(most)]


def _passages(voiced_F: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and last frame (exclusive) of each run of voiced frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], voiced_F, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _autocorrelation(frames_FW: Array) -> Array:
    """`[F, L]`, which is 1 at lag 0."""
    size = frames_FW.shape[1]
    power = np.square(np.abs(np.fft.rfft(frames_FW, 2 * size, axis=1)))
    found = np.fft.irfft(power, axis=1)[:, :size]
    normalised: Array = found / np.maximum(found[:, :1], QUIETEST**2)
    return normalised


def _vertex(before: Array, at: Array, after: Array) -> Array:
    """Where the parabola through three neighbouring points is highest, from -1/2 to 1/2 around the middle one."""
    bend = before - 2 * at + after
    return np.clip(np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1.0), 0.0), -0.5, 0.5)

"""The signals of a sound: its header, and how loud, silent and clipped it is. Decodes all of it, block by block."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.curate.score_group import ScoreColumn
from tercet.data_pipelines.decode.media import open_sound, waves

MOMENT = 0.02  # seconds
SILENT = 1e-3  # RMS of a moment: -60 dB of full scale
CLIPPED = 0.999
LEAST = 1e-6  # smallest RMS: -120 dB, also for digital silence

COLUMNS = {
    "seconds": ScoreColumn("float32", "duration"),
    "rate": ScoreColumn("int32", "samples a second"),
    "channels": ScoreColumn("int32", "channels of the sound"),
    "audio_bytes": ScoreColumn("int64", "size of the sound's file"),
    "loudness": ScoreColumn("float32", "RMS over all channels, in dB of full scale; -120 for silence"),
    "silence": ScoreColumn("float32", "share of the moments of 20 ms whose RMS is below -60 dB"),
    "clipping": ScoreColumn("float32", f"share of the values with a magnitude of at least {CLIPPED}"),
}


def sound_signals(data: bytes) -> dict[str, object]:
    with open_sound(data) as sound:
        header = {"seconds": sound.frames / sound.samplerate, "rate": sound.samplerate, "channels": sound.channels}
        return {**header, "audio_bytes": len(data), **_levels(waves(sound), max(1, round(MOMENT * sound.samplerate)))}


def _levels(blocks: Iterable[NDArray[np.float32]], length: int) -> dict[str, object]:
    """Of moments of `length` frames; the last one may be shorter."""
    power, values, clipped, silent, moments = 0.0, 0, 0, 0, 0
    for wave in _whole_moments(blocks, length):
        frame_F = np.square(wave, dtype=np.float64).mean(axis=1)
        starts = np.arange(0, len(wave), length)
        mean_M = np.add.reduceat(frame_F, starts) / np.diff(np.append(starts, len(wave)))
        silent += int(np.count_nonzero(mean_M < SILENT**2))
        moments += len(mean_M)
        power += float(frame_F.sum()) * wave.shape[1]
        clipped += int(np.count_nonzero(np.abs(wave) >= CLIPPED))
        values += wave.size
    rms = max(math.sqrt(power / values), LEAST)
    return {"loudness": 20 * math.log10(rms), "silence": silent / moments, "clipping": clipped / values}


def _whole_moments(blocks: Iterable[NDArray[np.float32]], length: int) -> Iterator[NDArray[np.float32]]:
    """The same frames in blocks of whole moments, up to the last block."""
    rest: NDArray[np.float32] | None = None
    for block in blocks:
        wave = block if rest is None else np.concatenate([rest, block])
        end = len(wave) // length * length
        if end:
            yield wave[:end]
        rest = wave[end:]
    if rest is not None and len(rest):
        yield rest

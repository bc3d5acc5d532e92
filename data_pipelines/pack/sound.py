"""Makes the sound that goes into a shard: the file's own bytes, or a shorter or resampled FLAC. Imports no torch.

Shape letters: T frames, C channels.
"""

import math
from io import BytesIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import MOST_STEPS, MOST_VALUES
from tercet.data_pipelines.decode.media import Sound, open_sound, verify_sound, waves
from tercet.data_pipelines.decode.resample import resampler
from tercet.data_pipelines.pack.config import PackConfig

EXTENSIONS = {
    "WAV": "wav", "WAVEX": "wav", "RF64": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3", "AIFF": "aiff",
}  # fmt: skip
FINE = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # what 16 bits would not hold

Wave = NDArray[np.float32]


def pack_sound(data: bytes, config: PackConfig) -> tuple[str, bytes]:
    """Extension and bytes. Every sound is decoded, because nothing else shows that it is complete."""
    with open_sound(data) as sound:
        rate = config.rate or sound.samplerate
        most = math.inf if config.seconds is None else round(config.seconds * sound.samplerate)
        if rate == sound.samplerate and sound.frames <= most:
            verify_sound(data)
            return EXTENSIONS[sound.format], data
        wave_TC = _start(sound, int(min(most, sound.frames)))
        return "flac", _flac(_resampled(wave_TC, sound.samplerate, rate), rate, sound.subtype)


def _start(sound: Sound, frames: int) -> Wave:
    """Decodes all of it, and keeps the first `frames`."""
    if frames * sound.channels > MOST_VALUES:
        raise BadSample("audio: over the caps")
    wave_TC = np.empty((frames, sound.channels), np.float32)
    read = 0
    for block_TC in waves(sound):
        free_TC = wave_TC[read : read + len(block_TC)]
        free_TC[:] = block_TC[: len(free_TC)]
        read += len(block_TC)
    if read < sound.frames:
        raise BadSample("audio: truncated or damaged")
    return wave_TC


def _resampled(wave_TC: Wave, rate: int, target: int) -> Wave:
    """Each channel by itself."""
    if max(rate, target) // math.gcd(rate, target) > MOST_STEPS:
        raise BadSample("audio: odd sampling rate")
    resample = resampler(rate, target)
    frames = resample.length(len(wave_TC))
    return np.stack([resample(np.ascontiguousarray(wave_T), 0, 0, frames) for wave_T in wave_TC.T], axis=1)


def _flac(wave_TC: Wave, rate: int, subtype: str) -> bytes:
    file = BytesIO()
    soundfile.write(file, wave_TC, rate, format="FLAC", subtype="PCM_24" if subtype in FINE else "PCM_16")
    return file.getvalue()

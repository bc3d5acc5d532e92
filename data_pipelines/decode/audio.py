"""Decodes bytes to a mono waveform. The header is checked before anything is allocated, and only the crop is read.

A crop equals the same part of the whole resampled clip.
"""

import math

import numpy as np

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import MOST_STEPS
from tercet.data_pipelines.decode.media import open_sound
from tercet.data_pipelines.decode.passage import passage
from tercet.data_pipelines.decode.resample import Wave, resampler
from tercet.data_pipelines.sample import AudioIntake
from tercet.data_pipelines.transforms.crop import View


def decode_audio(data: bytes, intake: AudioIntake, view: View) -> Wave:
    """The viewed part of a sound, as the mean of its channels, at the rate of the intake: float `[T]`."""
    with open_sound(data) as sound:
        if max(sound.samplerate, intake.rate) // math.gcd(sound.samplerate, intake.rate) > MOST_STEPS:
            raise BadSample("audio: odd sampling rate")
        resample = resampler(sound.samplerate, intake.rate)
        start, stop = view.span(resample.length(sound.frames), intake.window)
        first, last = resample.frames(start, stop)
        first = max(first, 0)
        wave_TC = passage(sound, data, first, min(last, sound.frames))
    wave = _mono(wave_TC)
    if not np.isfinite(wave).all():
        raise BadSample("audio: not finite")
    return resample(wave, first, start, stop)


def _mono(wave_TC: Wave) -> Wave:
    """The mean of the channels."""
    channels = wave_TC.shape[1]
    return wave_TC[:, 0] if channels == 1 else wave_TC @ np.full(channels, 1 / channels, np.float32)

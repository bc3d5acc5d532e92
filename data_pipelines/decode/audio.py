"""Bytes to a mono waveform. What a header claims is checked before anything is allocated, and only the crop is read.

A crop is a part of the resampled clip, whichever part is read: what a run hears does not depend on how it is cut.
"""

import math

import numpy as np
import soundfile

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.caps import MOST_STEPS, MOST_VALUES
from tercet.data_pipelines.decode.media import open_sound
from tercet.data_pipelines.decode.resample import Wave, resampler
from tercet.data_pipelines.sample import AudioIntake
from tercet.data_pipelines.transforms.crop import View


def decode_audio(data: bytes, intake: AudioIntake, view: View) -> Wave:
    """The viewed part of a sound, its channels averaged, at the intake's rate: float `[T]`."""
    with open_sound(data) as sound:
        if max(sound.samplerate, intake.rate) // math.gcd(sound.samplerate, intake.rate) > MOST_STEPS:
            raise BadSample("audio: odd sampling rate")
        resample = resampler(sound.samplerate, intake.rate)
        start, stop = view.span(resample.length(sound.frames), intake.window)
        first, last = resample.frames(start, stop)
        first = max(first, 0)
        wave = _read(sound, first, min(last, sound.frames))
    if not np.isfinite(wave).all():
        raise BadSample("audio: not finite")
    return resample(wave, first, start, stop)


def _read(sound: soundfile.SoundFile, first: int, last: int) -> Wave:
    """The mean of the channels. A FLAC that ends before its last frame is noticed whatever part of it is read."""
    if (last - first) * sound.channels > MOST_VALUES:
        raise BadSample("audio: over the caps")
    try:
        wave = _frames(sound, first, last)
        if sound.format == "FLAC" and last < sound.frames:
            _frames(sound, sound.frames - 1, sound.frames)
    except soundfile.SoundFileError as error:
        raise BadSample("audio: truncated or damaged") from error
    return wave[:, 0] if sound.channels == 1 else wave @ np.full(sound.channels, 1 / sound.channels, np.float32)


def _frames(sound: soundfile.SoundFile, first: int, last: int) -> Wave:
    sound.seek(first)
    wave: Wave = sound.read(last - first, dtype="float32", always_2d=True)
    if len(wave) < last - first:
        raise BadSample("audio: truncated or damaged")
    return wave

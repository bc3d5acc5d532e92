"""Bytes to a mono waveform. What a header claims is checked before anything is allocated, and only the crop is read.

A crop is a part of the resampled clip, whichever part is read: what a run hears does not depend on how it is cut.
"""

import math
from io import BytesIO

import numpy as np
import soundfile

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.containers import complete, readable
from tercet.data_pipelines.decode.resample import Wave, resampler
from tercet.data_pipelines.sample import AudioIntake
from tercet.data_pipelines.transforms.crop import View

UNTOLD = 2**63 - 1  # frames that libsndfile gives a FLAC which was written to a pipe and does not say how many
LEAST_HERTZ = 1000
MOST_HERTZ = 192_000
MOST_SECONDS = 3600
MOST_CHANNELS = 8
MOST_VALUES = 2**27  # frames × channels of what is read: half a gigabyte
MOST_STEPS = 2**16  # until two rates coincide, with which a resampling kernel grows: 15 MB


def decode_audio(data: bytes, intake: AudioIntake, view: View) -> Wave:
    """The viewed part of a sound, its channels averaged, at the intake's rate: float `[T]`."""
    with _opened(data) as sound:
        _check(sound, intake)
        resample = resampler(sound.samplerate, intake.rate)
        start, stop = view.span(resample.length(sound.frames), intake.window)
        first, last = resample.frames(start, stop)
        first = max(first, 0)
        wave = _read(sound, first, min(last, sound.frames))
    if not np.isfinite(wave).all():
        raise BadSample("audio: not finite")
    return resample(wave, first, start, stop)


def _opened(data: bytes) -> soundfile.SoundFile:
    if not readable(data):
        raise BadSample("audio: unreadable")
    if not complete(data):
        raise BadSample("audio: truncated or damaged")
    try:
        return soundfile.SoundFile(BytesIO(data))
    except soundfile.SoundFileError as error:
        raise BadSample("audio: unreadable") from error


def _check(sound: soundfile.SoundFile, intake: AudioIntake) -> None:
    rate = sound.samplerate
    if sound.frames < 1:
        raise BadSample("audio: empty")
    if sound.frames == UNTOLD:
        raise BadSample("audio: of untold length")
    if sound.channels > MOST_CHANNELS or not LEAST_HERTZ <= rate <= MOST_HERTZ or sound.frames > MOST_SECONDS * rate:
        raise BadSample("audio: over the caps")
    if max(rate, intake.rate) // math.gcd(rate, intake.rate) > MOST_STEPS:
        raise BadSample("audio: odd sampling rate")


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

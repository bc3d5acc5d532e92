"""Bytes to a mono waveform. What a header claims is checked before anything is allocated, and only the crop is read."""

import math
from functools import lru_cache
from io import BytesIO

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.transforms import Resample

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.sample import AudioIntake
from tercet.data_pipelines.transforms.crop import View

MOST_SECONDS = 3600
MOST_CHANNELS = 8
MOST_HERTZ = 192_000
MOST_VALUES = 2**27  # frames × channels of what is read: half a gigabyte
MOST_TAPS = 2**22  # of a resampling kernel, which grows with the product of two rates that share no factor


def decode_audio(data: bytes, intake: AudioIntake, view: View) -> Tensor:
    """The viewed part of a sound, its channels averaged, at the intake's rate: float `[T]`."""
    try:
        with soundfile.SoundFile(BytesIO(data)) as sound:
            wave, rate = _read(sound, intake, view), sound.samplerate
    except soundfile.SoundFileError as error:
        raise BadSample("audio: unreadable") from error
    if not np.isfinite(wave).all():
        raise BadSample("audio: not finite")
    return _resampled(torch.from_numpy(wave), rate, intake.rate)


def _read(sound: soundfile.SoundFile, intake: AudioIntake, view: View) -> NDArray[np.float32]:
    _check(sound)
    window = max(1, intake.window * sound.samplerate // intake.rate)  # rounded down: never longer than the intake's
    start, stop = view.span(sound.frames, window)
    if (stop - start) * sound.channels > MOST_VALUES:
        raise BadSample("audio: over the caps")
    if start:
        sound.seek(start)
    wave: NDArray[np.float32] = sound.read(stop - start, dtype="float32", always_2d=True)
    if len(wave) < stop - start:
        raise BadSample("audio: truncated")
    return wave[:, 0] if sound.channels == 1 else wave.mean(1)


def _check(sound: soundfile.SoundFile) -> None:
    if sound.frames < 1:
        raise BadSample("audio: empty")
    if (
        sound.channels > MOST_CHANNELS
        or sound.samplerate > MOST_HERTZ
        or sound.frames > MOST_SECONDS * sound.samplerate
    ):
        raise BadSample("audio: over the caps")


def _resampled(wave: Tensor, rate: int, target: int) -> Tensor:
    if rate == target:
        return wave
    common = math.gcd(rate, target)
    if rate // common * (target // common) > MOST_TAPS:
        raise BadSample("audio: odd sampling rate")
    resampled: Tensor = resampler(rate, target)(wave)
    return resampled


@lru_cache(maxsize=32)
def resampler(rate: int, target: int) -> Resample:
    return Resample(rate, target)

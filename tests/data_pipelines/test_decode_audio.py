from collections.abc import Callable
from math import pi

import numpy as np
import pytest
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.audio import decode_audio
from tercet.data_pipelines.sample import AudioIntake
from tercet.data_pipelines.transforms.crop import CentreView, RandomView

Sound = Callable[..., bytes]


def sine(hertz: float, rate: int, seconds: float) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_sine_is_resampled_to_the_same_sine(sound: Sound, rate: int) -> None:
    wave = decode_audio(sound(sine(440, rate, 1), rate), AudioIntake(16000, 5), CentreView()).numpy()
    assert len(wave) == 16000
    assert np.abs(wave - sine(440, 16000, 1))[200:-200].max() < 2e-3


def test_what_lies_above_the_new_band_is_filtered(sound: Sound) -> None:
    wave = decode_audio(sound(sine(11000, 48000, 1), 48000), AudioIntake(16000, 5), CentreView()).numpy()
    assert np.abs(wave[200:-200]).max() < 2e-3


def test_channels_are_averaged(sound: Sound) -> None:
    stereo = np.stack([sine(300, 16000, 0.1), sine(700, 16000, 0.1)], 1)
    wave = decode_audio(sound(stereo, 16000), AudioIntake(16000, 1), CentreView()).numpy()
    assert np.allclose(wave, stereo.mean(1), atol=1e-4)


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_a_training_crop_is_a_part_of_the_clip(sound: Sound, format: str) -> None:
    ramp = np.arange(5000) / 8192
    for id in range(20):
        view = RandomView(0, 0, id, None)
        start, stop = view.span(5000, 1600)
        wave = decode_audio(sound(ramp, 16000, format), AudioIntake(16000, 0.1), view).numpy()
        assert np.allclose(wave, ramp[start:stop], atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.1, 0.0333, 0.25007])
def test_a_training_crop_never_exceeds_the_window(sound: Sound, rate: int, seconds: float) -> None:
    intake = AudioIntake(16000, seconds)
    wave = decode_audio(sound(sine(200, rate, 1), rate), intake, RandomView(0, 0, 0, None))
    assert intake.window - 16000 // rate - 1 <= len(wave) <= intake.window


BROKEN: dict[str, tuple[str, Callable[[Sound], bytes]]] = {
    "no bytes": ("unreadable", lambda sound: b""),
    "no audio": ("unreadable", lambda sound: b"RIFF" + b"hello" * 20),
    "no frames": ("empty", lambda sound: sound(np.zeros(0), 16000, "WAV")),
    "not a number": ("not finite", lambda sound: sound(np.array([0.1, np.nan, 0.2]), 16000, "WAV", "FLOAT")),
    "infinite": ("not finite", lambda sound: sound(np.array([0.1, np.inf, 0.2]), 16000, "WAV", "FLOAT")),
    "100 channels": ("over the caps", lambda sound: sound(np.zeros((4, 100)), 16000, "WAV")),
    "a rate of 400 kHz": ("over the caps", lambda sound: sound(np.zeros(4), 400_000, "WAV")),
    "two hours": ("over the caps", lambda sound: sound(np.zeros(2 * 3600 * 20), 20, "WAV")),
    "a rate that shares no factor": ("odd sampling rate", lambda sound: sound(np.zeros(400), 44101, "WAV")),
    "cut short": ("unreadable|truncated", lambda sound: sound(sine(440, 16000, 2), 16000)[:8000]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sounds_are_bad(sound: Sound, name: str) -> None:
    reason, make = BROKEN[name]
    with pytest.raises(BadSample, match=f"audio: ({reason})"):
        decode_audio(make(sound), AudioIntake(16000, 1), CentreView())

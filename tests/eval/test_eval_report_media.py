"""Pictures, sounds and spectrograms of the report."""

import io
import math

import numpy as np
import pytest
import soundfile
from PIL import Image

from tercet.eval.report.media import mp3, spectrogram, webp
from tests.eval.reported import RATE


def test_webp_and_mp3_of_the_report_keep_colour_and_frequency() -> None:
    image = np.zeros((300, 200, 3), np.uint8)
    image[..., 0] = 200
    picture = Image.open(io.BytesIO(webp(image)))
    assert picture.format == "WEBP"
    assert picture.size == (85, 128)
    assert np.allclose(np.asarray(picture.convert("RGB")).mean(axis=(0, 1)), [200, 0, 0], atol=4)
    tone = np.sin(2 * math.pi * 1000 * np.arange(RATE * 12, dtype=np.float32) / RATE)
    heard, rate = soundfile.read(io.BytesIO(mp3(tone, RATE)))
    spectrum = np.abs(np.fft.rfft(heard[:RATE]))
    assert rate == RATE
    assert abs(len(heard) / RATE - 10) < 0.2
    assert abs(int(spectrum.argmax()) - 1000) <= 2


def test_a_spectrogram_shows_high_sounds_above_low_ones() -> None:
    def brightest(frequency: float) -> int:
        tone = np.sin(2 * math.pi * frequency * np.arange(RATE, dtype=np.float32) / RATE)
        return int(np.asarray(Image.open(io.BytesIO(spectrogram(tone, RATE))).convert("L")).mean(axis=1).argmax())

    low, middle, high = map(brightest, (200, 1000, 4000))
    assert low > middle > high
    assert low - middle > 20


@pytest.mark.parametrize("samples", [1, 30, 512])
def test_a_very_short_sound_can_be_played_and_drawn(samples: int) -> None:
    click = np.ones(samples, np.float32)
    assert len(soundfile.read(io.BytesIO(mp3(click, RATE)))[0]) == samples
    assert np.asarray(Image.open(io.BytesIO(spectrogram(click, RATE)))).max() > 200

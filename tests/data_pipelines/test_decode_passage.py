"""Compares a part read from the middle of a sound with the same part of the whole decoded sound."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tercet.data_pipelines.decode.media import open_sound, waves
from tercet.data_pipelines.decode.passage import SOON, passage

Sound = Callable[..., bytes]

FORMATS = [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("AIFF", None)]


def bursts(frames: int, channels: int) -> NDArray[np.float64]:
    """Noise with pauses: an encoder spends the bits that it saves in a pause on the noise after it."""
    dice = np.random.default_rng(channels)
    loudness = np.repeat(dice.uniform(0, 1, frames // 1000 + 1) > 0.6, 1000)[:frames]
    return 0.3 * dice.standard_normal((frames, channels)) * loudness[:, None]


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_a_passage_equals_that_part_of_the_whole_sound(
    sound: Sound, format: str, subtype: str | None, channels: int, rate: int
) -> None:
    data = sound(bursts(360_700, channels), rate, format, subtype)
    whole_TC, _ = soundfile.read(BytesIO(data), dtype="float32", always_2d=True)
    last = len(whole_TC)
    for first in [*range(0, last, 90_001), *range(SOON, last, 9_001), last - 700, last - 1]:
        with open_sound(data) as opened:
            np.testing.assert_allclose(passage(opened, data, first, last), whole_TC[first:], atol=1e-5)


@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_reading_a_sound_in_pieces_gives_the_whole(
    sound: Sound, format: str, subtype: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also checks that the decoder prints nothing, as libmpg123 does after a seek."""
    data = sound(bursts(200_700, 1), 16_000, format, subtype)
    whole_TC, _ = soundfile.read(BytesIO(data), dtype="float32", always_2d=True)
    with open_sound(data) as opened:
        np.testing.assert_allclose(np.concatenate(list(waves(opened))), whole_TC, atol=1e-6)
    assert capfd.readouterr().err == ""

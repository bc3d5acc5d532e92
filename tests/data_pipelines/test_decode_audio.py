from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchaudio.transforms import Resample

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.decode.audio import decode_audio
from tercet.data_pipelines.decode.resample import resampler
from tercet.data_pipelines.sample import AudioIntake
from tercet.data_pipelines.transforms.crop import CentreView

Sound = Callable[..., bytes]

FORMATS = [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("AIFF", None)]


@dataclass(frozen=True)
class PartView(CentreView):
    start: int
    stop: int

    def span(self, frames: int, window: int) -> tuple[int, int]:
        return self.start, self.stop


def sine(hertz: float, rate: int, seconds: float) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * pi * hertz * np.arange(round(rate * seconds)) / rate)


def noise(frames: int) -> NDArray[np.float32]:
    return np.random.default_rng(frames).uniform(-0.5, 0.5, frames).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_sine_is_resampled_to_the_same_sine(sound: Sound, rate: int) -> None:
    wave = decode_audio(sound(sine(440, rate, 1), rate), AudioIntake(16000, 5), CentreView())
    assert len(wave) == 16000
    assert np.abs(wave - sine(440, 16000, 1))[200:-200].max() < 2e-3


def test_frequencies_above_the_new_nyquist_limit_are_removed(sound: Sound) -> None:
    wave = decode_audio(sound(sine(11000, 48000, 1), 48000), AudioIntake(16000, 5), CentreView())
    assert np.abs(wave[200:-200]).max() < 2e-3


@pytest.mark.parametrize("target", [16000, 44100, 48000])
@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 32000, 44100, 48000, 96000])
def test_resampling_equals_torchaudio(rate: int, target: int) -> None:
    wave = noise(rate // 10 + 7)
    ours = resampler(rate, target)
    expected = Resample(rate, target)(torch.from_numpy(wave)).numpy()
    assert ours.length(len(wave)) == len(expected)
    np.testing.assert_allclose(ours(wave, 0, 0, len(expected)), expected, atol=2e-5)


@given(
    rate=st.integers(1000, 3000), target=st.integers(1000, 3000), length=st.integers(1, 4000), ends=st.data()
)  # mostly rates that share no factor
def test_resampling_a_part_equals_a_part_of_the_resampled_whole(
    rate: int, target: int, length: int, ends: st.DataObject
) -> None:
    wave, resample = noise(length), resampler(rate, target)
    whole = resample(wave, 0, 0, resample.length(length))
    start = ends.draw(st.integers(0, len(whole) - 1))
    stop = ends.draw(st.integers(start + 1, len(whole)))
    first, last = resample.frames(start, stop)
    first = max(first, 0)
    np.testing.assert_allclose(resample(wave[first:last], first, start, stop), whole[start:stop], atol=1e-6)


def test_channels_are_averaged(sound: Sound) -> None:
    stereo = np.stack([sine(300, 16000, 0.1), sine(700, 16000, 0.1)], 1)
    wave = decode_audio(sound(stereo, 16000), AudioIntake(16000, 1), CentreView())
    assert np.allclose(wave, stereo.mean(1), atol=1e-4)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_a_crop_equals_a_part_of_the_resampled_sound(sound: Sound, format: str, subtype: str | None, rate: int) -> None:
    """Also at both ends of the crop and of the sound: there is no drift."""
    if (subtype, rate) == ("OPUS", 44100):
        pytest.skip("Opus knows no 44.1 kHz")
    data = sound(noise(3 * rate) + sine(440, rate, 3), rate, format, subtype)
    whole = decode_audio(data, AudioIntake(16000, 1), CentreView())
    for start, stop in [(0, 16000), (12345, 28345), (len(whole) - 16000, len(whole)), (20000, 20001)]:
        crop = decode_audio(data, AudioIntake(16000, 1), PartView(start, stop))
        np.testing.assert_allclose(crop, whole[start:stop], atol=1e-3)


class AskedView(CentreView):
    """Records its arguments."""

    def span(self, frames: int, window: int) -> tuple[int, int]:
        self.asked = frames, window
        return frames - window, frames


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.1, 0.0333, 0.25007])
def test_crops_fill_the_window_of_the_intake(sound: Sound, rate: int, seconds: float) -> None:
    intake, view = AudioIntake(16000, seconds), AskedView()
    assert len(decode_audio(sound(noise(rate), rate), intake, view)) == intake.window
    assert view.asked == (16000, round(16000 * seconds))


def without_a_length(flac: bytes) -> bytes:
    """Sets the number of frames in the header (36 bits) to zero."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + b"\0" * 4 + flac[26:]


BROKEN: dict[str, tuple[str, Callable[[Sound], bytes]]] = {
    "no bytes": ("not a known format", lambda sound: b""),
    "a page of the web": ("not a known format", lambda sound: b"<!DOCTYPE html>" * 20),
    "of another kind": ("not a known format", lambda sound: sound(sine(440, 16000, 1), 16000, "CAF")),
    "another FORM": ("not a known format", lambda sound: sound(sine(440, 16000, 1), 16000, "SVX")),
    "an M4A": ("M4A, which is not read; convert it to FLAC", lambda sound: b"\0\0\0 ftypM4A " + bytes(40)),
    "nothing but a magic": ("truncated", lambda sound: b"RIFF" + b"hello" * 20),
    "nothing but a sync": ("unreadable", lambda sound: b"\xff\xfb" + b"\0" * 400),
    "no frames": ("empty", lambda sound: sound(np.zeros(0), 16000, "WAV")),
    "not a number": ("not finite", lambda sound: sound(np.array([0.1, np.nan, 0.2]), 16000, "WAV", "FLOAT")),
    "infinite": ("not finite", lambda sound: sound(np.array([0.1, np.inf, 0.2]), 16000, "WAV", "FLOAT")),
    "a FLAC from a pipe": ("unknown length", lambda sound: without_a_length(sound(sine(440, 16000, 1), 16000))),
    "100 channels": ("over the caps", lambda sound: sound(np.zeros((4, 100)), 16000, "WAV")),
    "a rate of 400 kHz": ("over the caps", lambda sound: sound(np.zeros(4), 400_000, "WAV")),
    "a rate of 20 Hz": ("over the caps", lambda sound: sound(np.zeros(4), 20, "WAV")),
    "two hours": ("over the caps", lambda sound: sound(np.zeros(2 * 3600 * 1000, np.int16), 1000, "WAV")),
    "a rate that shares no factor": ("odd sampling rate", lambda sound: sound(np.zeros(400), 96001, "WAV")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sounds_are_bad(sound: Sound, name: str) -> None:
    reason, make = BROKEN[name]
    with pytest.raises(BadSample, match=f"audio: ({reason})"):
        decode_audio(make(sound), AudioIntake(16000, 1), CentreView())


@pytest.mark.parametrize("view", [CentreView(), PartView(100, 1700)], ids=["whole", "crop before the cut"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.999])
@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_a_truncated_sound_is_bad_wherever_the_crop_is(
    sound: Sound, format: str, subtype: str | None, share: float, view: CentreView
) -> None:
    data = sound(noise(48_000) + sine(440, 16000, 3), 16000, format, subtype)
    assert len(decode_audio(data, AudioIntake(16000, 0.1), view))
    with pytest.raises(BadSample, match="audio: truncated or damaged"):
        decode_audio(data[: int(share * len(data))], AudioIntake(16000, 0.1), view)


def test_a_flipped_byte_is_found_in_formats_with_checksums(sound: Sound) -> None:
    data = bytearray(sound(noise(48_000), 16000))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(BadSample, match="audio: truncated or damaged"):
        decode_audio(bytes(data), AudioIntake(16000, 1), CentreView())


def test_a_wav_without_a_size_is_read(sound: Sound) -> None:
    data = sound(sine(440, 16000, 1), 16000, "WAV", "PCM_16")
    size = data.index(b"data") + 4
    piped = data[:4] + b"\xff" * 4 + data[8:size] + b"\xff" * 4 + data[size + 4 :]
    intake, view = AudioIntake(16000, 1), CentreView()
    np.testing.assert_array_equal(decode_audio(piped, intake, view), decode_audio(data, intake, view))


@pytest.mark.parametrize("format", ["RF64", "WAVEX"])
def test_formats_related_to_wav_are_read(sound: Sound, format: str) -> None:
    data = sound(sine(440, 16000, 1), 16000, format, "PCM_16")
    plain = sound(sine(440, 16000, 1), 16000, "WAV", "PCM_16")
    intake, view = AudioIntake(16000, 1), CentreView()
    np.testing.assert_array_equal(decode_audio(data, intake, view), decode_audio(plain, intake, view))
    with pytest.raises(BadSample, match="audio: truncated or damaged"):
        decode_audio(data[:-2], intake, view)


def test_the_length_of_an_mp3_starts_after_its_tag(sound: Sound) -> None:
    data = sound(sine(440, 16000, 1), 16000, "MP3")
    tagged = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + b"\0" * 256 + data
    intake, view = AudioIntake(16000, 1), CentreView()
    np.testing.assert_array_equal(decode_audio(tagged, intake, view), decode_audio(data, intake, view))
    with pytest.raises(BadSample, match="audio: truncated or damaged"):
        decode_audio(tagged[:-200], intake, view)


@given(magic=st.sampled_from([b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"\xff\xfb"]), rest=st.binary(max_size=400))
def test_garbage_after_a_magic_number_is_a_bad_sample(magic: bytes, rest: bytes) -> None:
    with pytest.raises(BadSample, match=r"audio: (not a|unreadable|truncated or damaged|empty|over the caps)"):
        decode_audio(magic + rest, AudioIntake(16000, 1), CentreView())

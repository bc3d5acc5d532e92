"""Pictures and sounds that are packed: unchanged, or compared with Pillow and closed forms."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageCms, ImageOps

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.pack.config import PackConfig
from tercet.data_pipelines.pack.picture import pack_picture
from tercet.data_pipelines.pack.sound import pack_sound

Picture = Callable[..., bytes]
Sound = Callable[..., bytes]

EXTENSION = {"jpeg": "jpg", "png": "png", "webp": "webp"}


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def sine(hertz: float, rate: int, seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("format", EXTENSION)
@pytest.mark.parametrize("size", [None, 16, 400])
def test_a_small_picture_is_not_changed(picture: Picture, format: str, size: int | None) -> None:
    data = picture(1, (20, 16), format)
    assert pack_picture(data, PackConfig(size=size)) == (EXTENSION[format], data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", EXTENSION)
def test_a_resized_picture_equals_pillow(picture: Picture, format: str, orientation: int) -> None:
    whole = opened(picture(orientation, (600, 400)))
    exif = whole.getexif()
    exif[0x112] = orientation
    file = BytesIO()
    whole.save(file, format, exif=exif, **({"quality": 95} if format == "jpeg" else {"lossless": True}))
    extension, data = pack_picture(file.getvalue(), PackConfig(size=64, quality=95))
    smaller, size = opened(data), (96, 64) if orientation < 5 else (64, 96)
    expected = ImageOps.exif_transpose(opened(file.getvalue())).resize(size, Image.Resampling.BICUBIC)
    assert (extension, smaller.size, smaller.mode) == (EXTENSION[format], size, "RGB")
    assert not smaller.getexif()
    difference = np.abs(np.asarray(smaller, dtype=int) - np.asarray(expected))
    assert difference.mean() < (0.01 if format == "png" else 2)


@pytest.mark.parametrize(
    ("mode", "format"), [("L", "jpeg"), ("CMYK", "jpeg"), ("RGBA", "png"), ("P", "png"), ("1", "png"), ("RGB", "webp")]
)
def test_modes_keep_their_colours(mode: str, format: str) -> None:
    colour = (200, 40, 90)
    file = BytesIO()
    Image.new("RGB", (50, 40), colour).convert(mode).save(file, format)
    smaller = opened(pack_picture(file.getvalue(), PackConfig(size=20))[1])
    assert smaller.size == (25, 20)
    means = [np.asarray(one.convert("RGB")).mean((0, 1)) for one in (smaller, opened(file.getvalue()))]
    np.testing.assert_allclose(*means, atol=3)


def test_sixteen_bits_become_eight_of_the_same_grey() -> None:
    file = BytesIO()
    Image.fromarray(np.full((40, 50), 0x6423, dtype=np.uint16)).save(file, "png")
    smaller = opened(pack_picture(file.getvalue(), PackConfig(size=20))[1])
    assert (smaller.mode, smaller.size, smaller.getpixel((3, 3))) == ("L", (25, 20), 0x64)


def test_transparency_and_the_colour_profile_stay() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = BytesIO()
    Image.new("RGBA", (50, 40), (10, 20, 30, 128)).save(file, "png", icc_profile=profile)
    smaller = opened(pack_picture(file.getvalue(), PackConfig(size=20))[1])
    np.testing.assert_allclose(smaller.getpixel((5, 5)), (10, 20, 30, 128), atol=1)
    assert smaller.info["icc_profile"] == profile


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize("format", EXTENSION)
def test_a_truncated_picture_is_left_out(picture: Picture, format: str, size: int | None) -> None:
    data = picture(3, (200, 160), format)
    with pytest.raises(BadSample, match="not a known format" if format == "webp" else "truncated or damaged"):
        pack_picture(data[: len(data) * 3 // 4], PackConfig(size=size))
    with pytest.raises(BadSample, match="not a known format"):
        pack_picture(b"<html>" + data, PackConfig(size=size))


def test_a_picture_with_too_many_pixels_is_left_out() -> None:
    file = BytesIO()
    Image.new("1", (9000, 8000)).save(file, "png")
    with pytest.raises(BadSample, match="too many pixels"):
        pack_picture(file.getvalue(), PackConfig(size=8))


@pytest.mark.parametrize(("format", "extension"), [("WAV", "wav"), ("FLAC", "flac"), ("OGG", "ogg"), ("MP3", "mp3")])
def test_a_sound_that_fits_is_not_changed(sound: Sound, format: str, extension: str) -> None:
    data = sound(sine(440, 16_000, 0.5), 16_000, format)
    assert pack_sound(data, PackConfig(rate=16_000, seconds=2)) == (extension, data)


@pytest.mark.parametrize(("rate", "target"), [(48_000, 16_000), (44_100, 16_000), (16_000, 48_000)])
def test_each_channel_is_resampled_to_its_closed_form(sound: Sound, rate: int, target: int) -> None:
    hertz = (440.0, 1234.5)
    extension, data = pack_sound(sound(np.stack([sine(h, rate, 1.0) for h in hertz], 1), rate), PackConfig(rate=target))
    wave_TC, found = soundfile.read(BytesIO(data))
    assert (extension, found, wave_TC.shape) == ("flac", target, (target, 2))
    expected_TC = np.stack([sine(h, target, 1.0) for h in hertz], 1)
    inner = slice(100, -100)
    np.testing.assert_allclose(wave_TC[inner], expected_TC[inner], atol=2e-3)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("frames", [9000, 200_000])
def test_a_long_sound_keeps_its_start_bit_for_bit(sound: Sound, subtype: str, frames: int) -> None:
    data = sound(np.random.default_rng(0).normal(0, 0.1, (frames, 2)), 8000, "WAV", subtype)
    extension, start = pack_sound(data, PackConfig(seconds=0.75))
    assert extension == "flac"
    assert soundfile.info(BytesIO(start)).subtype == subtype
    np.testing.assert_array_equal(
        soundfile.read(BytesIO(start), dtype="int32")[0], soundfile.read(BytesIO(data), 6000, dtype="int32")[0]
    )


@pytest.mark.parametrize("config", [PackConfig(), PackConfig(rate=8000), PackConfig(seconds=0.1)])
@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_a_truncated_sound_is_left_out(sound: Sound, format: str, config: PackConfig) -> None:
    data = sound(np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000, format)
    with pytest.raises(BadSample, match="truncated or damaged"):
        pack_sound(data[: len(data) // 2], config)


def test_invalid_sounds_are_left_out(sound: Sound) -> None:
    wave = np.array([0.0, np.nan, 0.0])
    for data, reason in [
        (sound(wave, 8000, "WAV", "FLOAT"), "not finite"),
        (sound(np.zeros((10, 100)), 8000, "WAV"), "over the caps"),
        (sound(np.zeros(0), 8000, "WAV"), "empty"),
        (b"nothing that sounds", "not a known format"),
    ]:
        with pytest.raises(BadSample, match=reason):
            pack_sound(data, PackConfig())

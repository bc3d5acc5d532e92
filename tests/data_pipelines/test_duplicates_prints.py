"""Changed copies of pictures, sounds and captions are recognised, and different ones are not."""

import tracemalloc
from collections.abc import Callable
from functools import cache
from io import BytesIO

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.builtin.config import WorldConfig
from tercet.data_pipelines.builtin.render import render_shard
from tercet.data_pipelines.duplicates import picture, sound
from tercet.data_pipelines.duplicates.near import FURTHEST, Near, distance
from tercet.data_pipelines.duplicates.prints import normalised

Wave = NDArray[np.float32]
REAL = ("astronaut", "camera", "chelsea", "coffee", "coins", "horse", "immunohistochemistry", "moon", "page", "text")


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), flips=st.lists(st.integers(0, 64), min_size=1, max_size=20))
def test_near_hashes_equal_a_naive_loop(seed: int, flips: list[int]) -> None:
    """Random hashes, and copies in which some bits differ."""
    dice = np.random.default_rng(seed)
    known = dice.integers(0, 2**64, 50, dtype=np.uint64)
    asked = known[: len(flips)].copy()
    for row, flip in enumerate(flips):
        for bit in dice.permutation(64)[:flip].tolist():
            asked[row] ^= np.uint64(1 << bit)
    naive = {
        (q, n)
        for q, one in enumerate(asked.tolist())
        for n, other in enumerate(known.tolist())
        if bin(one ^ other).count("1") <= FURTHEST
    }
    assert set(zip(*(rows.tolist() for rows in Near(known).pairs(asked)), strict=True)) == naive
    assert distance(asked, known[: len(flips)]).tolist() == flips


@cache
def real_pictures() -> dict[str, Image.Image]:
    data = pytest.importorskip("skimage.data")
    pixels = {name: np.asarray(getattr(data, name)()) for name in REAL}
    return {
        name: Image.fromarray(one * np.uint8(255) if one.dtype == bool else one).convert("RGB")
        for name, one in pixels.items()
    }


def generated(count: int, seconds: float) -> list[dict[str, bytes]]:
    config = WorldConfig(train=count, val=0, combinations=0, seconds=seconds, samples_per_shard=count, workers=1)
    return [{k: v for k, v in one.items() if isinstance(v, bytes)} for one in render_shard(config, "train", 0)]


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "poor quality": lambda one: saved(one, "JPEG", quality=30),
    "another codec": lambda one: saved(one, "WEBP", quality=60),
    "half the size": lambda one: one.resize((one.width // 2, one.height // 2), Image.Resampling.LANCZOS),
    "another shape": lambda one: one.resize((300, 200), Image.Resampling.BICUBIC),
    "cut all around": lambda one: cut(one, 0.015, 0.015, 0.015, 0.015),
    "cut at the left": lambda one: cut(one, 0.03, 0, 0, 0),
    "cut at the foot": lambda one: cut(one, 0, 0, 0, 0.03),
    "brighter": lambda one: one.point([min(255, round(1.15 * value + 8)) for value in range(256)] * 3),
    "darker": lambda one: one.point([round(0.8 * value) for value in range(256)] * 3),
}


def saved(one: Image.Image, format: str, **options: int) -> Image.Image:
    return Image.open(BytesIO(encoded(one, format, **options)))


def encoded(one: Image.Image, format: str = "PNG", **options: int) -> bytes:
    file = BytesIO()
    one.save(file, format, **options)
    return file.getvalue()


def cut(one: Image.Image, left: float, upper: float, right: float, lower: float) -> Image.Image:
    width, height = one.size
    return one.crop(
        (round(left * width), round(upper * height), round((1 - right) * width), round((1 - lower) * height))
    )


def alike(files: list[bytes]) -> list[tuple[int, int]]:
    """The pairs that a search finds: one of their hashes is near, and a closer comparison agrees."""
    looks = [picture.look(one) for one in files]
    near: set[tuple[int, int]] = set()
    for hashes in zip(*map(picture.hashes, looks), strict=True):
        joined = np.concatenate(hashes)
        rows = zip(*(row // len(picture.VIEWS) for row in Near(joined).pairs(joined)), strict=True)
        near |= {(int(one), int(other)) for one, other in rows if one < other}
    return sorted(pair for pair in near if picture.alike(looks[pair[0]], looks[pair[1]]))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_is_recognised(change: str) -> None:
    real = real_pictures()
    files = [encoded(one) for one in real.values()] + [encoded(CHANGES[change](one)) for one in real.values()]
    assert alike(files) == [(row, row + len(real)) for row in range(len(real))]


def test_different_pictures_are_not_duplicates() -> None:
    """Real pictures, their mirror images, 20,000 pairs of generated scenes, and pictures of one colour."""
    real = list(real_pictures().values())
    mirrored = [one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in real]
    plain = [Image.new("RGB", (64, 64), colour) for colour in ("white", "grey")]
    scenes = [one["jpg"] for one in generated(200, 0.5)]
    assert not alike([encoded(one) for one in [*real, *mirrored, *plain]])
    assert not alike(scenes)


SOUNDS: dict[str, Callable[[Wave, int], bytes]] = {
    "vorbis": lambda wave, rate: written(wave, rate, "OGG", "VORBIS"),
    "mp3": lambda wave, rate: written(wave, rate, "MP3"),
    "another rate": lambda wave, rate: written(soxr.resample(wave, rate, 22_050), 22_050),
    "softer": lambda wave, rate: written(0.2 * wave, rate),
    "stereo": lambda wave, rate: written(np.stack([wave, 0.5 * wave], 1), rate),
    "a part": lambda wave, rate: written(wave[rate // 2 + 37 : 5 * rate // 2], rate),
    "all that, softer": lambda wave, rate: written(soxr.resample(0.4 * wave[rate // 3 :], rate, 24_000), 24_000, "MP3"),
}


def written(wave: Wave, rate: int, format: str = "FLAC", subtype: str | None = None) -> bytes:
    file = BytesIO()
    soundfile.write(file, wave, rate, format=format, subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def sounds() -> list[bytes]:
    return [one["flac"] for one in generated(40, 3.0)]


@pytest.mark.parametrize("change", SOUNDS)
def test_a_changed_sound_is_recognised_and_different_ones_are_not(sounds: list[bytes], change: str) -> None:
    known = sound.Known([sound.words(one) for one in sounds])
    changed = [SOUNDS[change](*soundfile.read(BytesIO(one), dtype="float32")) for one in sounds[:20]]
    shared = [known.shared(sound.words(one)) for one in changed]
    assert sum(n in found for n, found in enumerate(shared)) >= 18
    assert sum(len(set(found) - {n}) for n, found in enumerate(shared)) <= 1  # of 780


def test_sounds_shorter_than_a_second_are_recognised(sounds: list[bytes]) -> None:
    waves = [soundfile.read(BytesIO(one), dtype="float32") for one in sounds]
    short = [(wave[rate : 7 * rate // 4], rate) for wave, rate in waves]
    known = sound.Known([sound.words(written(*one)) for one in short])
    shared = [known.shared(sound.words(written(*one, "MP3"))) for one in short[:20]]
    assert sum(n in found for n, found in enumerate(shared)) >= 12  # steady tones have little to be known by
    assert sum(len(set(found) - {n}) for n, found in enumerate(shared)) <= 1  # of 780


def test_silence_and_noise_are_not_duplicates() -> None:
    noises = [written(np.random.default_rng(n).normal(0, 0.1, 24_000).astype(np.float32), 8000) for n in range(20)]
    quiet = [written(np.zeros(24_000, np.float32), 8000)] * 2
    short = [written(np.ones(500, np.float32), 8000)] * 2
    words = [sound.words(one) for one in [*noises, *quiet, *short]]
    known = sound.Known(words)
    assert [known.shared(one) for one in words] == [*([n] for n in range(20)), [], [], [], []]


def test_a_long_sound_takes_little_memory() -> None:
    """Five minutes: all spectra at once would take half a gigabyte."""
    long = written(np.random.default_rng(0).normal(0, 0.1, 8000 * 300).astype(np.float32), 8000)
    tracemalloc.start()
    words = sound.words(long)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(words) == (8000 * 300 - sound.WINDOW) // sound.HOP
    assert most < 2**27


def test_captions_are_compared_by_words() -> None:
    assert normalised("  A Photo—of a “ﬁne” DOG! ") == normalised("a photo of a fine dog")
    assert normalised("Straße") == normalised("STRASSE")
    assert normalised("a red dog") != normalised("a dog")
    assert normalised("犬。") == "犬"
    assert normalised("?!") == ""

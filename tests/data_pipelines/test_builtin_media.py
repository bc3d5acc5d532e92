"""Measures every attribute of generated scenes in their pictures and sounds, independently of the renderer."""

from itertools import product

import numpy as np
import pytest

from tercet.data_pipelines.builtin.config import BuiltinSourceConfig
from tercet.data_pipelines.builtin.figure import PALETTE
from tercet.data_pipelines.builtin.picture import picture
from tercet.data_pipelines.builtin.scene import Address, Scene, Thing
from tercet.data_pipelines.builtin.sound import LOUDNESS, REGISTER, sound
from tercet.data_pipelines.builtin.vocabulary import COLOURS, SHAPES, TEXTURES

RATE = 16_000
VIVID = [colour for colour in COLOURS if colour != "white"]


def single(
    shape: str = "circle", colour: str = "red", size: str = "large", texture: str = "plain", index: int = 0
) -> Scene:
    return Scene((Thing(shape, colour, size, texture),), None, Address(0, "val", index))


def pair(relation: str, index: int = 0) -> Scene:
    objects = (Thing("circle", "red", "large", "plain"), Thing("square", "blue", "small", "plain"))
    return Scene(objects, relation, Address(0, "val", index))


def pixels(shown: Scene) -> np.ndarray:
    return np.asarray(picture(shown), np.float64)


def saturated(shown: Scene) -> np.ndarray:
    values = pixels(shown)
    return values.max(axis=2) - values.min(axis=2) > 58


def rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(wave.astype(np.float64) ** 2)))


def loudest_frequency(wave: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    smooth = np.convolve(power, np.ones(9), "same")
    return float(np.fft.rfftfreq(len(wave), 1 / RATE)[smooth.argmax()])


def register(wave: np.ndarray) -> str:
    return min(REGISTER, key=lambda colour: abs(np.log(REGISTER[colour] / loudest_frequency(wave))))


def power_at(wave: np.ndarray, frequency: float) -> float:
    """The power within a semitone of a frequency."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    semitones = 12 * np.log2(np.fft.rfftfreq(len(wave), 1 / RATE)[1:] / frequency)
    return float(power[1:][np.abs(semitones) < 1].sum())


def test_pictures_and_sounds_depend_only_on_the_scene() -> None:
    shown, other = pair("left"), pair("left", index=1)
    assert picture(shown).tobytes() == picture(shown).tobytes() != picture(other).tobytes()
    assert sound(shown).tobytes() == sound(shown).tobytes() != sound(other).tobytes()
    assert picture(shown, 96).size == (96, 96)
    assert sound(shown, 8000, 0.5).shape == (4000,)
    assert sound(shown).dtype == np.float32


@pytest.mark.parametrize("colour", VIVID)
def test_the_saturated_pixels_have_the_colour_of_the_object(colour: str) -> None:
    for index, shape in enumerate(SHAPES):
        shown = single(shape, colour, index=index)
        median = np.median(pixels(shown)[saturated(shown)], axis=0)
        assert min(VIVID, key=lambda name: np.linalg.norm(median - np.array(PALETTE[name]))) == colour


@pytest.mark.parametrize("shape", SHAPES)
def test_large_objects_cover_more_than_small_ones(shape: str) -> None:
    cover = {
        size: [saturated(single(shape, "blue", size, index=index)).sum() for index in range(30)]
        for size in ("small", "large")
    }
    assert max(cover["small"]) < 0.7 * min(cover["large"])


def test_textures_add_a_second_tone() -> None:
    def tones(texture: str) -> float:
        shown = single("square", "blue", texture=texture, index=3)
        row, column = np.median(saturated(shown).nonzero(), axis=1).astype(int)
        return float(pixels(shown)[row - 6 : row + 7, column - 6 : column + 7].std(axis=(0, 1)).max())

    assert tones("striped") > 5 * tones("plain") < tones("dotted")


@pytest.mark.parametrize(
    ("relation", "axis", "sign"), [("left", 1, -1), ("right", 1, 1), ("above", 0, -1), ("below", 0, 1)]
)
def test_the_relation_decides_where_the_first_object_is(relation: str, axis: int, sign: int) -> None:
    for index in range(20):
        values = pixels(pair(relation, index))
        red = np.argwhere((values[..., 0] > values[..., 2] + 90) & (values[..., 1] < 100)).mean(axis=0)
        blue = np.argwhere((values[..., 2] > values[..., 0] + 90) & (values[..., 1] < 130)).mean(axis=0)
        assert sign * (red - blue)[axis] > 20
        assert abs((red - blue)[1 - axis]) < 10


@pytest.mark.parametrize(("shape", "texture"), list(product(SHAPES, TEXTURES)))
def test_the_colour_decides_the_register_of_the_loudest_frequency(shape: str, texture: str) -> None:
    assert [register(sound(single(shape, colour, texture=texture))) for colour in COLOURS] == list(COLOURS)


def test_loudness_depends_on_size_and_not_on_texture() -> None:
    level = {
        size: [rms(sound(single(shape, "green", size, texture))) for shape, texture in product(SHAPES, TEXTURES)]
        for size in LOUDNESS
    }
    assert max(level["small"]) < 0.5 * min(level["large"])


def test_each_shape_has_its_timbre() -> None:
    ratio = {}
    for shape in SHAPES:
        wave = sound(single(shape, "orange"))
        base = power_at(wave, REGISTER["orange"])
        ratio[shape] = [power_at(wave, multiple * REGISTER["orange"]) / base for multiple in (1.5, 2, 2.5, 3)]
    has = {shape: [value > 0.02 for value in values] for shape, values in ratio.items()}
    assert has["circle"] == [False, False, False, False]
    assert has["square"] == [False, False, False, True]
    assert has["triangle"] == [False, True, False, True]
    assert has["star"] == [False, False, True, False]
    assert has["ring"] == [True, False, False, False]


@pytest.mark.parametrize(("texture", "low", "high"), [("striped", 4.5, 5.7), ("dotted", 8.4, 10.6)])
def test_the_texture_decides_the_rate_of_the_envelope(texture: str, low: float, high: float) -> None:
    envelope = np.abs(sound(single("circle", "pink", texture=texture))).reshape(-1, 80).mean(axis=1)
    held = np.abs(sound(single("circle", "pink"))).reshape(-1, 80).mean(axis=1)
    beat = np.abs(np.fft.rfft(envelope - envelope.mean()))
    pace = np.fft.rfftfreq(len(envelope), 80 / RATE)
    assert low < pace[6:][beat[6:].argmax()] < high
    assert beat[6:].max() > 3 * np.abs(np.fft.rfft(held - held.mean()))[6:].max()


def test_objects_are_heard_in_the_order_of_the_scene() -> None:
    things = tuple(Thing("triangle", colour, "large", "plain") for colour in ("white", "red", "cyan"))
    wave = sound(Scene(things, "left", Address(0, "val", 0)))
    thirds = np.array_split(wave, 3)
    assert [register(third) for third in thirds] == ["white", "red", "cyan"]


def test_a_source_changes_the_background_colour_and_adds_noise() -> None:
    place = BuiltinSourceConfig(name="cellar", share=1.0, tint=(40, 40, 200), noise=0.01)
    plain = single()
    there = Scene(plain.objects, None, plain.address, source=place)
    edge = [pixels(shown)[:4].mean(axis=(0, 1)) for shown in (plain, there)]
    assert edge[1][2] - edge[1][0] > 60 > abs(edge[0][2] - edge[0][0])
    silence = [rms(sound(shown)[:300]) for shown in (plain, there)]
    assert silence[0] < 0.003
    assert silence[1] == pytest.approx(0.011, abs=0.002)

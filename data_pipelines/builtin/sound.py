"""The sound of a scene: one note after the other, in the order of its objects.

An object's shape is the timbre, its colour the register, its size the loudness and its texture the envelope. Some
timbres are spectra, others are changes over time (a vibrato, a glide, roughness) that a mean spectrum does not show.
"""

from functools import cache
from math import ceil, pi

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.builtin.scene import Scene, Thing
from tercet.data_pipelines.builtin.vocabulary import COLOURS

Wave = NDArray[np.float32]

REGISTER = {colour: 180.0 * 1.3**step for step, colour in enumerate(COLOURS)}  # Hz; neighbours are 4.5 semitones apart
DETUNE = 0.5  # semitones to either side
LOUDNESS = {"small": 0.02, "large": 0.08}  # root mean square of a note
PARTIALS: dict[str, dict[float, float]] = {  # multiples of the register's frequency; halves of it are allowed
    "circle": {1: 1.0},
    "square": {1: 1.0, 3: 0.6, 5: 0.4, 7: 0.3},
    "triangle": {1: 1.0, 2: 0.8, 3: 0.7, 4: 0.6, 5: 0.5, 6: 0.4},
    "star": {1: 1.0, 2.5: 0.8, 4.5: 0.5},
    "cross": {1: 1.0},
    "heart": {1: 1.0, 2: 0.6},
    "ring": {1: 1.0, 1.5: 0.9},
    "diamond": {1: 1.0, 2: 0.6},
}
VIBRATO = {"heart": 1.3}  # semitones
GLIDE = {"diamond": 1.7}  # semitones, from above to below
ROUGHNESS = {"cross": 0.12}  # line width in shares of the frequency
TABLE = 8192  # samples of a table of two periods


def sound(scene: Scene, rate: int = 16_000, seconds: float = 2.0) -> Wave:
    dice = scene.stream("sound")
    length = round(rate * seconds)
    hiss = dice.uniform(0.0005, 0.002) + (scene.source.noise if scene.source else 0.0)
    wave = dice.standard_normal(length, dtype=np.float32) * np.float32(hiss)
    edges = np.linspace(0.02, 0.98, len(scene.objects) + 1) * length
    for thing, start, stop in zip(scene.objects, edges, edges[1:], strict=False):
        span = stop - start
        early, late = dice.uniform(0.0, 0.08, 2) * span
        first, last = ceil(start + early), int(stop - late)
        wave[first:last] += note(thing, last - first, rate, dice)
    clipped: Wave = wave.clip(-1, 1)
    return clipped


def note(thing: Thing, length: int, rate: int, dice: np.random.Generator) -> Wave:
    frequency = REGISTER[thing.colour] * 2 ** (dice.uniform(-DETUNE, DETUNE) / 12)
    tone: Wave = _table(thing.shape, thing.colour, rate)[_phase(thing.shape, frequency, length, rate, dice)]
    tone *= _envelope(thing.texture, length, rate, dice)
    level = LOUDNESS[thing.size] * 10 ** (dice.uniform(-1, 1) / 20)
    tone *= level / np.sqrt(np.mean(tone**2))
    return tone


def _phase(shape: str, frequency: float, length: int, rate: int, dice: np.random.Generator) -> NDArray[np.int64]:
    """Positions in the table: the running sum of a frequency that changes as the shape defines."""
    bend = np.zeros(length)
    if shape in VIBRATO:
        pace, start = dice.uniform((5, 0), (6.5, 2 * pi))
        bend += VIBRATO[shape] * np.sin(2 * pi * pace / rate * np.arange(length) + start)
    if shape in GLIDE:
        bend += np.linspace(GLIDE[shape], -GLIDE[shape], length)
    cycles = np.cumsum(2 ** (bend / 12)) * (frequency / rate) if bend.any() else np.arange(length) * (frequency / rate)
    if shape in ROUGHNESS:  # a phase that wanders at random has a Lorentzian line of this width
        wander = np.sqrt(ROUGHNESS[shape] * frequency / rate / (2 * pi))
        cycles += np.cumsum(dice.normal(0, wander, length))
    return ((cycles + dice.uniform(0, 2)) * (TABLE / 2)).astype(np.int64) & (TABLE - 1)


@cache
def _table(shape: str, colour: str, rate: int) -> Wave:
    """Two periods of the timbre with the partials that fit below the Nyquist frequency; their phases are fixed."""
    highest = 0.47 * rate / REGISTER[colour]
    turns = np.arange(TABLE) / TABLE
    partials = [(multiple, level) for multiple, level in PARTIALS[shape].items() if multiple == 1 or multiple < highest]
    waves = [level * np.sin(2 * pi * (2 * multiple * turns + 0.31 * multiple**2)) for multiple, level in partials]
    table: Wave = np.sum(waves, axis=0).astype(np.float32)
    return table


def _envelope(texture: str, length: int, rate: int, dice: np.random.Generator) -> Wave:
    """Plain is sustained, striped swells and fades, dotted is plucked; all fade in and out."""
    time = np.arange(length, dtype=np.float32) / np.float32(rate)
    envelope: Wave = np.minimum(1, np.minimum(time, time[::-1]) / np.float32(0.012))
    if texture == "striped":
        envelope *= 0.5 - 0.5 * np.cos(time * np.float32(2 * pi * dice.uniform(4.6, 5.6)))
    elif texture == "dotted":
        envelope *= np.exp(-7 * (time * np.float32(dice.uniform(8.5, 10.5)) % 1))
    return envelope

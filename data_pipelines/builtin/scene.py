"""Scenes: what a sample of the generated world shows, a pure function of (config, split, index).

A scene fixes its objects and their relation; the picture, the sound and the captions draw their own jitter from streams
keyed by the scene, so that each can be made without the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from tercet.data_pipelines.builtin.config import BuiltinSourceConfig, Split, WorldConfig
from tercet.data_pipelines.builtin.vocabulary import COLOURS, HELD_OUT, PAIRINGS, RELATIONS, SHAPES, SIZES, TEXTURES
from tercet.data_pipelines.seeding import keyed


@dataclass(frozen=True, order=True)
class Thing:
    """One object, in canonical words."""

    shape: str
    colour: str
    size: str
    texture: str

    @property
    def words(self) -> dict[str, str]:
        return dict(vars(self))

    @property
    def held_out(self) -> bool:
        return (self.shape, self.colour) in HELD_OUT


@dataclass(frozen=True)
class Address:
    """The split and index of a sample, which alone determine its random draws."""

    seed: int
    split: Split
    index: int

    def stream(self, purpose: str) -> np.random.Generator:
        return keyed(f"{self.split} {purpose}", self.seed, item=self.index)


@dataclass(frozen=True)
class Scene:
    """One to three different objects in order; `relation` is that of the first to the second."""

    objects: tuple[Thing, ...]
    relation: str | None
    address: Address
    generic: bool = False
    source: BuiltinSourceConfig | None = None

    def stream(self, purpose: str) -> np.random.Generator:
        return self.address.stream(purpose)

    @property
    def identity(self) -> str:
        """The objects without order and place: a picture does not show the order, nor a sound the place."""
        return " | ".join(f"{one.size} {one.texture} {one.colour} {one.shape}" for one in sorted(self.objects))

    @property
    def group(self) -> int:
        """63 bits that scenes of the same objects share."""
        return int.from_bytes(blake2b(self.identity.encode(), digest_size=8).digest(), "big") >> 1


def scene(config: WorldConfig, split: Split, index: int) -> Scene:
    address = Address(config.seed, split, index)
    objects, relation = content(config, address)
    dice = address.stream("circumstances")
    generic = split == "train" and bool(dice.random() < config.generic)
    return Scene(objects, relation, address, generic, _source(config.sources, dice))


def content(config: WorldConfig, address: Address) -> tuple[tuple[Thing, ...], str | None]:
    """The objects and their relation: newly drawn, or those of an earlier scene if this one is a duplicate."""
    dice = address.stream("content")
    training = address.split == "train"
    if training and address.index > 0 and dice.random() < config.duplicates:
        return content(config, replace(address, index=int(dice.integers(address.index))))
    count = 1 + pick(config.objects, dice)
    exponent = config.long_tail if training else 0.0
    objects: list[Thing] = []
    while len(objects) < count:
        thing = _thing(address.split == "combinations", exponent, dice)
        if thing not in objects:
            objects.append(thing)
    return tuple(objects), RELATIONS[dice.integers(len(RELATIONS))] if count > 1 else None


def pick(shares: Sequence[float], dice: np.random.Generator) -> int:
    """A position drawn in proportion to the shares, which need not sum to one."""
    edges = np.cumsum(shares)
    return int(np.searchsorted(edges, dice.random() * edges[-1], side="right"))


def _thing(held_out: bool, exponent: float, dice: np.random.Generator) -> Thing:
    pairings, weights = pairing_weights(held_out, exponent)
    shape, colour = pairings[pick(weights, dice)]
    return Thing(shape, colour, SIZES[dice.integers(len(SIZES))], TEXTURES[dice.integers(len(TEXTURES))])


@lru_cache
def pairing_weights(held_out: bool, exponent: float) -> tuple[tuple[tuple[str, str], ...], tuple[float, ...]]:
    """The shape–colour pairings of one side, and how often each comes: Zipf over shapes times Zipf over colours."""
    pairings = tuple(pairing for pairing in PAIRINGS if (pairing in HELD_OUT) == held_out)
    ranks = [(1 + SHAPES.index(shape)) * (1 + COLOURS.index(colour)) for shape, colour in pairings]
    return pairings, tuple(rank**-exponent for rank in ranks)


def _source(sources: tuple[BuiltinSourceConfig, ...], dice: np.random.Generator) -> BuiltinSourceConfig | None:
    shares = [source.share for source in sources]
    chosen = pick([*shares, max(0.0, 1 - sum(shares))], dice)
    return sources[chosen] if chosen < len(sources) else None

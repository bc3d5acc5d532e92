"""The closer look at two pictures or sounds that have similar hashes."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tercet.data_pipelines.curate.score_group import ScoreGroup
from tercet.data_pipelines.duplicates import picture, sound
from tercet.data_pipelines.duplicates.prints import WANTED, media
from tercet.data_pipelines.source import Source

LOOKS = 256  # pictures that are kept for the next comparison
PARTS = 4  # of the fingerprints of sounds that are in memory
SLIP = 4  # moments by which a codec may delay a sound


class Looks:
    """Whether the pictures of two rows look the same."""

    def __init__(self, source: Source, id_N: NDArray[np.int64]) -> None:
        self._source, self._id_N = source, id_N
        self._look = lru_cache(LOOKS)(self._read)

    def __call__(self, one: int, other: int) -> bool:
        return picture.alike(self._look(one), self._look(other))

    def _read(self, row: int) -> Image.Image:
        (files,) = self._source.read([int(self._id_N[row])], WANTED)
        data = media(files, "image") if isinstance(files, Mapping) else None
        assert data is not None  # it has a fingerprint
        return picture.look(data)


class Sounds:
    """Whether the sounds of two rows sound the same, from their starts on."""

    def __init__(self, prints: ScoreGroup, name: str, id_N: NDArray[np.int64]) -> None:
        self._prints, self._name, self._id_N = prints, name, id_N
        self._part = lru_cache(PARTS)(self._read)

    def __call__(self, one: int, other: int) -> bool:
        own, others = self._words(one), self._words(other)
        return any(sound.agree(own, others, shift) for shift in range(-SLIP, SLIP + 1))

    def _words(self, row: int) -> sound.Words:
        id = int(self._id_N[row])
        id_n, words = self._part(self._prints.part_with(self._name, id))
        return np.frombuffer(words[int(np.searchsorted(id_n, id))].as_buffer(), np.uint32)

    def _read(self, ids: range) -> tuple[NDArray[np.int64], Any]:
        rows = self._prints.read(self._name, ids)
        return rows["id"].to_numpy(), rows["words"]

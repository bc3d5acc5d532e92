"""Augments training samples by modality: the built-in changes, then those of plugins."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.sample import Media, Sample
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.transforms.audio import AudioAugmenter
from tercet.data_pipelines.transforms.config import AugmentConfig, HideConfig, ImageAugment
from tercet.data_pipelines.transforms.crop import RandomView
from tercet.data_pipelines.transforms.hidden import with_hidden
from tercet.data_pipelines.transforms.image import ImageAugmenter
from tercet.data_pipelines.transforms.transform import Transform, build_transform
from tercet.modality import modality_of


class Augmenter:
    """Augments a sample by the 64-bit key of its view. Each row of a field has its own draws.

    `draws`: how many random numbers the tower of sounds uses for each row. `shrunk`: the factors of pictures that
    are smaller than those the config is meant for, by field. `hidden`: the fields of pictures with hidden squares.
    `pictures`: the changes of fields that have their own.
    """

    def __init__(
        self,
        config: AugmentConfig,
        draws: int = 0,
        shrunk: Mapping[str, float] | None = None,
        hidden: Mapping[str, HideConfig] | None = None,
        pictures: Mapping[str, ImageAugment] | None = None,
    ) -> None:
        self.picture, self.sound = ImageAugmenter(config.image), AudioAugmenter(config.audio)
        changes = dict(pictures or {})
        changes |= {name: changes.get(name, config.image).shrunk(factor) for name, factor in (shrunk or {}).items()}
        self._pictures = {name: ImageAugmenter(one) for name, one in changes.items()}
        self._masks, self._draws, self._hidden = config.audio.masks, draws, hidden or {}
        self._further: Mapping[str, list[Transform]] = {
            modality: [build_transform(one) for one in listed] for modality, listed in config.further.items()
        }

    def __call__(self, sample: Sample, view: RandomView, partner: Media | None = None) -> Sample:
        """`partner`: the sound to mix into that of the sample. Without any change, returns the sample itself."""
        return with_hidden(self._augmented(sample, view, partner), view.key, self._hidden)

    def _augmented(self, sample: Sample, view: RandomView, partner: Media | None) -> Sample:
        media = {
            name: self._changed(name, value, view.key, partner if name == "audio" else None)
            for name, value in sample.media.items()
        }
        further = {name: self._rows(name, rows, view) for name, rows in sample.further.items()}
        masks = self._of_sounds(sample, view, self.sound.masks) if self._masks else {}
        draws = self._of_sounds(sample, view, self._drawn) if self._draws else {}
        if not (further or masks or draws) and all(media[name] is value for name, value in sample.media.items()):
            return sample  # a copy costs as much as reading the file
        return replace(sample, media=media, further=further, masks=masks, draws=draws)

    def _rows(self, name: str, rows: tuple[Any, ...], view: RandomView) -> tuple[Any, ...]:
        if modality_of(name) == "text":
            return rows
        keys = [view.of(name, row, None).key for row in range(len(rows))]
        return tuple(self._changed(name, media, key, None) for media, key in zip(rows, keys, strict=True))

    def _of_sounds(
        self, sample: Sample, view: RandomView, draw: Callable[[int], NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """What is drawn by the key of every sound, `[rows, …]`."""
        drawn = {"audio": [draw(view.key)]} if "audio" in sample.media else {}
        for name, rows in sample.further.items():
            if modality_of(name) == "audio":
                drawn[name] = [draw(view.of(name, row, None).key) for row in range(len(rows))]
        return {name: np.stack(rows) for name, rows in drawn.items()}

    def _drawn(self, key: int) -> NDArray[np.float32]:
        return keyed("tower", key).random(self._draws, np.float32)

    def _changed(self, name: str, media: Media, key: int, partner: Media | None) -> Media:
        modality = modality_of(name)
        if modality == "image":
            media = self._pictures.get(name, self.picture)(media, key)
        elif modality == "audio":
            media = self.sound(media, key, partner)
        for place, transform in enumerate(self._further.get(modality, ())):
            media = transform(media, keyed(f"{modality} {place}", key))
        return media

"""Augments training samples by modality: the built-in changes, then those of plugins."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.sample import Media, Sample
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.transforms.audio import AudioAugmenter
from tercet.data_pipelines.transforms.config import AugmentConfig
from tercet.data_pipelines.transforms.crop import RandomView
from tercet.data_pipelines.transforms.image import ImageAugmenter
from tercet.data_pipelines.transforms.transform import Transform, build_transform
from tercet.modality import modality_of


class Augmenter:
    """Augments a sample by the 64-bit key of its view. Each row of a field has its own draws.

    `shrunk`: the factors of pictures that are smaller than those the config is meant for, by field.
    """

    def __init__(self, config: AugmentConfig, shrunk: Mapping[str, float] | None = None) -> None:
        self.picture, self.sound = ImageAugmenter(config.image), AudioAugmenter(config.audio)
        self._shrunk = {name: ImageAugmenter(config.image.shrunk(factor)) for name, factor in (shrunk or {}).items()}
        self._masks = config.audio.masks
        self._further: Mapping[str, list[Transform]] = {
            modality: [build_transform(one) for one in listed] for modality, listed in config.further.items()
        }

    def __call__(self, sample: Sample, view: RandomView, partner: Media | None = None) -> Sample:
        """`partner`: the sound to mix into that of the sample. Without any change, returns the sample itself."""
        media = {
            name: self._changed(name, value, view.key, partner if name == "audio" else None)
            for name, value in sample.media.items()
        }
        further = {name: self._rows(name, rows, view) for name, rows in sample.further.items()}
        masks = self._all_masks(sample, view)
        if not (further or masks) and all(media[name] is value for name, value in sample.media.items()):
            return sample  # a copy costs as much as reading the file
        return replace(sample, media=media, further=further, masks=masks)

    def _rows(self, name: str, rows: tuple[Any, ...], view: RandomView) -> tuple[Any, ...]:
        if modality_of(name) == "text":
            return rows
        keys = [view.of(name, row, None).key for row in range(len(rows))]
        return tuple(self._changed(name, media, key, None) for media, key in zip(rows, keys, strict=True))

    def _all_masks(self, sample: Sample, view: RandomView) -> dict[str, NDArray[np.float32]]:
        """Of every sound `[rows, K, 4]`."""
        if not self._masks:
            return {}
        masks = {"audio": [self.sound.masks(view.key)]} if "audio" in sample.media else {}
        for name, rows in sample.further.items():
            if modality_of(name) == "audio":
                masks[name] = [self.sound.masks(view.of(name, row, None).key) for row in range(len(rows))]
        return {name: np.stack(rows) for name, rows in masks.items()}

    def _changed(self, name: str, media: Media, key: int, partner: Media | None) -> Media:
        modality = modality_of(name)
        if modality == "image":
            media = self._shrunk.get(name, self.picture)(media, key)
        elif modality == "audio":
            media = self.sound(media, key, partner)
        for place, transform in enumerate(self._further.get(modality, ())):
            media = transform(media, keyed(f"{modality} {place}", key))
        return media

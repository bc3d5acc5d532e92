"""Transforms by name: changes to the media of a modality that a recipe lists under `data.augment.further`.

A transform is a frozen dataclass whose fields are its config. It gets a generator keyed by the sample and the epoch,
draws from nothing else, and keeps the type of the media; an array of a fixed shape keeps its shape, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from typing_extensions import dataclass_transform

from tercet.configs.registry import Registry, build_named, register_named
from tercet.data_pipelines.sample import Media
from tercet.data_pipelines.transforms.config import TransformConfig


class Transform(ABC):
    """A picture is uint8 `[H, W, 3]`, a sound float `[T]`, any other modality the output of its decoder."""

    @abstractmethod
    def __call__(self, media: Media, draw: np.random.Generator) -> Media: ...


Kind = TypeVar("Kind", bound=Transform)
_transforms: Registry[type[Transform]] = Registry("transform")


@dataclass_transform(frozen_default=True)
def transform(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Registers a transform under the name that recipes use."""
    return register_named(_transforms, name)


def build_transform(config: TransformConfig) -> Transform:
    return build_named(_transforms, config.name, config.model_extra or {})

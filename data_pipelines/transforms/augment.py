"""What is done to the media of a sample while training, by modality: the house's own changes, then a plugin's."""

from collections.abc import Mapping

from tercet.data_pipelines.sample import Media
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.transforms.audio import AudioAugmenter
from tercet.data_pipelines.transforms.config import AugmentConfig
from tercet.data_pipelines.transforms.image import ImageAugmenter
from tercet.data_pipelines.transforms.transform import Transform, build_transform


class Augmenter:
    """Changes one sample's picture, sound or array as the sample's 64-bit key decides."""

    def __init__(self, config: AugmentConfig) -> None:
        self.picture, self.sound = ImageAugmenter(config.image), AudioAugmenter(config.audio)
        self._further: Mapping[str, list[Transform]] = {
            modality: [build_transform(one) for one in listed] for modality, listed in config.further.items()
        }

    def __call__(self, modality: str, media: Media, key: int, partner: Media | None = None) -> Media:
        """`partner`: the sound that is mixed into this one."""
        if modality == "image":
            media = self.picture(media, key)
        elif modality == "audio":
            media = self.sound(media, key, partner)
        for place, transform in enumerate(self._further.get(modality, ())):
            media = transform(media, keyed(f"{modality} {place}", key))
        return media

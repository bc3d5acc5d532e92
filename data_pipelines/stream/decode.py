"""Items of a stream as they are seen in training: decoded, cropped and changed like what is read from an index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.collate import collate
from tercet.data_pipelines.config import DataConfig, SourceConfig
from tercet.data_pipelines.decode.item import FileDecoder
from tercet.data_pipelines.sample import Batch, Intake, Sample
from tercet.data_pipelines.stream.reader import Item
from tercet.data_pipelines.transforms.augment import Augmenter
from tercet.data_pipelines.transforms.crop import RandomView, random_views
from tercet.errors import UserError


@dataclass(frozen=True)
class DecodedItem:
    """An item, what became of it, and the key that its augmentation is drawn from."""

    item: Item
    sample: Sample | BadSample
    key: int


class Eyes:
    """Decodes chunks of a stream, and puts what was seen into batches. Threads may share it."""

    def __init__(
        self, data: DataConfig, name: str, source: SourceConfig, intakes: Mapping[str, Intake], seed: int
    ) -> None:
        if data.augment.audio.mix:
            raise UserError("data.augment.audio.mix draws partners from an index, and a stream has none; set it to 0")
        self.intakes = intakes
        self._decoder = FileDecoder(intakes, source, data.exact_images)
        self._name, self._seed, self._crop = name, seed, data.crop
        self._augment = Augmenter(data.augment)
        self._masks = data.augment.audio.masks

    @property
    def wanted(self) -> frozenset[str]:
        """Extensions of the files that are decoded."""
        return frozenset(self._decoder.wanted)

    def look(self, items: Sequence[Item]) -> list[DecodedItem]:
        epochs, ids = [item.turn.epoch for item in items], [item.id for item in items]
        views = random_views(self._name, self._seed, epochs, ids, self._crop)
        return [self._seen(item, id, view) for item, id, view in zip(items, ids, views, strict=True)]

    def batch(self, seen: Sequence[DecodedItem]) -> Batch:
        good = [(one.sample, one.key) for one in seen if isinstance(one.sample, Sample)]
        batch = collate([sample for sample, _ in good], self.intakes)
        if not self._masks or "audio" not in batch.fields:
            return batch
        sounds = batch.fields["audio"]
        masks = np.array([self._augment.sound.masks(good[item][1]) for item in sounds.item.tolist()], dtype=np.float32)
        masked = replace(sounds, masks=torch.from_numpy(masks.reshape(-1, self._masks, 4)))
        return replace(batch, fields={**batch.fields, "audio": masked})

    def _seen(self, item: Item, id: int, view: RandomView) -> DecodedItem:
        sample = self._decoder.sample(item.key, id, item.files, view)
        item = replace(item, files={})  # the bytes have been seen, and batches are made ahead
        return DecodedItem(item, sample if isinstance(sample, BadSample) else self._changed(sample, view.key), view.key)

    def _changed(self, sample: Sample, key: int) -> Sample:
        return replace(sample, media={name: self._augment(name, media, key) for name, media in sample.media.items()})

"""Decodes, crops and augments the samples of a stream, in the same way as samples that are read by index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.config import DataConfig, SourceConfig
from tercet.data_pipelines.decode.item import FileDecoder
from tercet.data_pipelines.fields import FieldSpec, own_pictures
from tercet.data_pipelines.sample import Batch, Intake, Sample
from tercet.data_pipelines.stream.reader import StreamItem
from tercet.data_pipelines.transforms.augment import Augmenter
from tercet.data_pipelines.transforms.crop import RandomView, random_views
from tercet.errors import UserError


@dataclass(frozen=True)
class DecodedItem:
    """An item and its decoded sample."""

    item: StreamItem
    sample: Sample | BadSample


class StreamDecoder:
    """Decodes items of a stream and collates batches. Threads may share it."""

    def __init__(
        self,
        data: DataConfig,
        name: str,
        source: SourceConfig,
        intakes: Mapping[str, Intake],
        further: Mapping[str, FieldSpec] | None,
        seed: int,
    ) -> None:
        if data.augment.audio.mix:
            raise UserError(
                "data.augment.audio.mix draws other samples by index, which a stream does not have. Set it to 0"
            )
        self._decoder = FileDecoder(intakes, source, data.exact_images, further)
        self._maker = BatchMaker(intakes, further, data.augment.audio.masks, data.values)
        self._name, self._seed, self._crop = name, seed, data.crop
        pictures = own_pictures(self._maker.fields)
        self._augment = Augmenter(data.augment, self._maker.draws, hidden=self._maker.hidden, pictures=pictures)

    @property
    def wanted(self) -> frozenset[str]:
        """Extensions of the files that are decoded."""
        return frozenset(self._decoder.wanted)

    def decode(self, items: Sequence[StreamItem]) -> list[DecodedItem]:
        epochs, ids = [item.turn.epoch for item in items], [item.id for item in items]
        views = random_views(self._name, self._seed, epochs, ids, self._crop)
        return [self._decode_one(item, id, view) for item, id, view in zip(items, ids, views, strict=True)]

    def collate(self, items: Sequence[DecodedItem]) -> Batch:
        return self._maker.collate([item.sample for item in items if isinstance(item.sample, Sample)])

    def _decode_one(self, item: StreamItem, id: int, view: RandomView) -> DecodedItem:
        sample = self._decoder.sample(item.key, id, item.files, view)
        item = replace(item, files={})  # frees the bytes: decoded items wait for their batch
        return DecodedItem(item, sample if isinstance(sample, BadSample) else self._augment(sample, view))

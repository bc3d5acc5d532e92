"""What a worker does: it decodes and augments some samples of a batch, and writes them into the buffer of the batch.

Other samples of the same source replace bad ones. They come from the same shard if possible, so that a node reads only
its own shards.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tercet.data_pipelines.bad_samples import BadSample, Fault
from tercet.data_pipelines.batches.batch_maker import SEED, BatchMaker
from tercet.data_pipelines.batches.buffers import Arrays, Buffer, BufferLayout, open_arrays
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.fields import own_pictures
from tercet.data_pipelines.plans.members import Members
from tercet.data_pipelines.sample import Media, Sample
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.transforms.augment import Augmenter
from tercet.data_pipelines.transforms.config import AugmentConfig, ViewsConfig
from tercet.data_pipelines.transforms.crop import RandomView, random_views, stored_views
from tercet.data_pipelines.workers.pool import Kind
from tercet.errors import UserError

NEARBY = 16  # substitutes that are tried from the same shard
RGB = 3  # channels of pictures without a mask
ANYWHERE = 64  # and then from the whole source, before the run stops


@dataclass(frozen=True)
class DecodedSource:
    """A source and its decoder. In the run, the ids of its samples start at `first`."""

    name: str
    decode: Decoder
    first: int
    members: Members
    decode_sound: Decoder | None = None  # decodes only the sound, for mixing it into another one


@dataclass(frozen=True)
class DecodeTask:
    """Samples of one source, the epoch of each, and the rows of the buffer that they are written to."""

    source: int
    ids: Sequence[int]
    epochs: Sequence[int]
    rows: Sequence[int]
    buffer: Buffer | str  # or its path, for another process


@dataclass(frozen=True)
class DecodeResult:
    """How many samples were decoded, and which of them were bad."""

    seen: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class ViewedSample:
    """A sample and the random view that it was decoded with."""

    sample: Sample
    view: RandomView


class DecodeWorker:
    """Does a `DecodeTask`: reads the samples, decodes and augments them, and writes them into their rows."""

    chunk = 32  # samples of one task: enough to hide its overhead, few enough to spread a batch over the workers

    def __init__(
        self,
        sources: Sequence[DecodedSource],
        maker: BatchMaker,
        layout: BufferLayout,
        seed: int,
        crop: tuple[float, float] | None,
        augment: AugmentConfig,
        views: ViewsConfig | None = None,
        shrunk: Mapping[str, float] | None = None,
    ) -> None:
        """`shrunk`: the factors of pictures that are smaller than those the augmentation is meant for, by field."""
        self.sources, self.maker, self.layout, self.seed, self._crop = sources, maker, layout, seed, crop
        self._fixed = views
        self._augment = Augmenter(augment, maker.draws, shrunk or {}, maker.hidden, own_pictures(maker.fields))

    def __call__(self, task: DecodeTask) -> DecodeResult:
        source = self.sources[task.source]
        arrays = open_arrays(task.buffer, self.layout) if isinstance(task.buffer, str) else task.buffer.arrays
        views = self._views(source, task, arrays)
        faults: list[Fault] = []
        seen = [
            self._substitute(source, id, epoch, one, faults) if isinstance(one, BadSample) else ViewedSample(one, view)
            for id, epoch, view, one in zip(task.ids, task.epochs, views, source.decode(task.ids, views), strict=True)
        ]
        samples = [self._augment(one.sample, one.view, self._partner(one, source)) for one in seen]
        self.maker.write(arrays, task.rows, samples, source.first)
        if SEED in arrays:
            arrays[SEED][task.rows] = np.array([one.view.key for one in seen], dtype=np.uint64).view(np.int64)
        if "epoch" in arrays:
            arrays["epoch"][task.rows] = task.epochs
        return DecodeResult(len(seen) + len(faults), tuple(faults))

    def pool(self, data: DataConfig) -> tuple[Kind, int]:
        """The kind and the number of the workers that do the tasks."""
        return data.worker, data.workers

    def prefetch(self, source: int, ids: Sequence[int]) -> None:
        """Announces that these samples of a source will be read soon."""
        self.sources[source].decode.source.prefetch(ids)

    def _views(self, source: DecodedSource, task: DecodeTask, arrays: Arrays) -> list[RandomView]:
        """The random view of each sample; pictures are decoded directly into the buffer."""
        views = self.random_views(source, task.ids, task.epochs)
        if "image" not in arrays or arrays["image"].shape[-1] != RGB:
            return views
        return [replace(view, canvas=arrays["image"][row, 0]) for view, row in zip(views, task.rows, strict=True)]

    def random_views(self, source: DecodedSource, ids: Sequence[int], epochs: Sequence[int]) -> list[RandomView]:
        if self._fixed is None:
            return random_views(source.name, self.seed, epochs, ids, self._crop)
        return stored_views(self._fixed.seed, [one % self._fixed.count for one in epochs], ids, self._crop)

    def _substitute(
        self, source: DecodedSource, id: int, epoch: int, bad: BadSample, faults: list[Fault]
    ) -> ViewedSample:
        """Draws samples in place of a bad one until one is good."""
        row = [source.decode.fault(id, bad.reason)]
        for other in candidates(source, self.seed, epoch, id):
            (view,) = self.random_views(source, [other], [epoch])
            (one,) = source.decode([other], [view])
            if isinstance(one, Sample):
                faults += row
                return ViewedSample(one, view)
            row.append(source.decode.fault(other, one.reason))
        raise all_bad(row)

    def _partner(self, one: ViewedSample, source: DecodedSource) -> Media | None:
        """The sound that is mixed into this one, if one is drawn and it can be decoded."""
        if source.decode_sound is None or "audio" not in one.sample.media:
            return None
        members = source.members
        other = self._augment.sound.partner(one.view.key, members.number(one.sample.id), len(members))
        if other is None:
            return None
        (partner,) = source.decode_sound([members.id(other)], [one.view])
        return partner.audio if isinstance(partner, Sample) else None


def all_bad(row: Sequence[Fault]) -> UserError:
    """The error if a sample and all that could replace it are bad."""
    counts = ", ".join(f"{count} × {reason}" for reason, count in Counter(one.reason for one in row).items())
    return UserError(f"{len(row)} samples in a row are bad ({counts}), the last in {row[-1].shard}. Fix the data")


def candidates(source: DecodedSource, seed: int, epoch: int, id: int) -> Iterator[int]:
    """The samples that may replace a bad one, in the order in which they are tried."""
    draw = keyed(f"substitute {source.name}", seed, epoch, id)
    yield from map(source.members.id, draw.integers(*source.members.near(id), size=NEARBY).tolist())
    yield from map(source.members.id, draw.integers(len(source.members), size=ANYWHERE).tolist())

"""A worker's share of the work: some samples of a batch, decoded as they are seen in training, into their rows.

Bad samples are replaced by others of the same source, first of the same shard, so that a node keeps to its own shards.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tercet.data_pipelines.bad_samples import BadSample, Fault
from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.batches.buffers import Arrays, Buffer, BufferLayout, attached
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.plans.members import Members
from tercet.data_pipelines.sample import Media, Sample
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.transforms.augment import Augmenter
from tercet.data_pipelines.transforms.config import AugmentConfig
from tercet.data_pipelines.transforms.crop import RandomView, random_views
from tercet.errors import UserError

NEARBY = 16  # substitutes tried from the same shard
ANYWHERE = 64  # and then from the whole source, before the data are taken to be broken altogether


@dataclass(frozen=True)
class DecodedSource:
    """One source as it is decoded. Its samples are numbered from `first` on in the run."""

    name: str
    decode: Decoder
    first: int
    members: Members
    hear: Decoder | None = None  # the sounds alone, of samples that are mixed into others


@dataclass(frozen=True)
class DecodeTask:
    """Samples of one feed, each in an epoch of its source, and the rows of a slot that they go to."""

    feed: int
    ids: Sequence[int]
    epochs: Sequence[int]
    rows: Sequence[int]
    slot: Buffer | str  # where another process finds it


@dataclass(frozen=True)
class Filled:
    """How many samples were looked at, and those that were bad."""

    seen: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class ViewedSample:
    """A sample, and the draws by which it is looked at."""

    sample: Sample
    view: RandomView


class DecodeWorker:
    """Does a `DecodeTask`: reads the samples, decodes and augments them, and writes them into their rows."""

    def __init__(
        self,
        feeds: Sequence[DecodedSource],
        maker: BatchMaker,
        layout: BufferLayout,
        seed: int,
        crop: tuple[float, float] | None,
        augment: AugmentConfig,
    ) -> None:
        self.feeds, self.maker, self.layout, self._seed, self._crop = feeds, maker, layout, seed, crop
        self._augment = Augmenter(augment)

    def __call__(self, task: DecodeTask) -> Filled:
        feed = self.feeds[task.feed]
        arrays = attached(task.slot, self.layout) if isinstance(task.slot, str) else task.slot.arrays
        views = self._views(feed, task, arrays)
        faults: list[Fault] = []
        seen = [
            self._substitute(feed, id, epoch, one, faults) if isinstance(one, BadSample) else ViewedSample(one, view)
            for id, epoch, view, one in zip(task.ids, task.epochs, views, feed.decode(task.ids, views), strict=True)
        ]
        self.maker.write(arrays, task.rows, [self._finished(one, feed) for one in seen])
        return Filled(len(seen) + len(faults), tuple(faults))

    def _views(self, feed: DecodedSource, task: DecodeTask, arrays: Arrays) -> list[RandomView]:
        """How each sample is seen; pictures are drawn where they belong."""
        views = random_views(feed.name, self._seed, task.epochs, task.ids, self._crop)
        if "image" not in arrays:
            return views
        return [replace(view, canvas=arrays["image"][row, 0]) for view, row in zip(views, task.rows, strict=True)]

    def _substitute(
        self, feed: DecodedSource, id: int, epoch: int, bad: BadSample, faults: list[Fault]
    ) -> ViewedSample:
        """The first good sample of those drawn in place of a bad one."""
        row = [feed.decode.fault(id, bad.reason)]
        for other in _candidates(feed, self._seed, epoch, id):
            (view,) = random_views(feed.name, self._seed, [epoch], [other], self._crop)
            (one,) = feed.decode([other], [view])
            if isinstance(one, Sample):
                faults += row
                return ViewedSample(one, view)
            row.append(feed.decode.fault(other, one.reason))
        counts = ", ".join(f"{count} × {reason}" for reason, count in Counter(one.reason for one in row).items())
        raise UserError(
            f"{len(row)} samples in a row are bad ({counts}), the last in {row[-1].shard}; repair the shards"
        )

    def _finished(self, one: ViewedSample, feed: DecodedSource) -> Sample:
        """The augmented sample, under its number in the run."""
        sample = self._augment(one.sample, one.view, self._partner(one, feed))
        group = sample.group - feed.first if sample.group < 0 else sample.group
        return replace(sample, id=feed.first + sample.id, group=group)

    def _partner(self, one: ViewedSample, feed: DecodedSource) -> Media | None:
        """The sound that is mixed into this one, if one is drawn and it can be decoded."""
        if feed.hear is None or "audio" not in one.sample.media:
            return None
        members = feed.members
        other = self._augment.sound.partner(one.view.key, members.number(one.sample.id), len(members))
        if other is None:
            return None
        (heard,) = feed.hear([members.id(other)], [one.view])
        return heard.audio if isinstance(heard, Sample) else None


def _candidates(feed: DecodedSource, seed: int, epoch: int, id: int) -> Iterator[int]:
    draw = keyed(f"substitute {feed.name}", seed, epoch, id)
    yield from map(feed.members.id, draw.integers(*feed.members.near(id), size=NEARBY).tolist())
    yield from map(feed.members.id, draw.integers(len(feed.members), size=ANYWHERE).tolist())

"""A worker's share of the work: some samples of a batch, decoded as they are seen in training, into their rows.

Bad samples are replaced by others of the same source, first of the same shard, so that a node keeps to its own shards.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tercet.data_pipelines.bad_samples import BadSample, Fault
from tercet.data_pipelines.batches.buffers import Arrays, Buffer, BufferLayout, attached
from tercet.data_pipelines.decode.item import Decoder
from tercet.data_pipelines.sample import Intake, Media, Sample, TextIntake
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


class Filler:
    """What every worker of a loader does with a task."""

    def __init__(
        self,
        feeds: Sequence[DecodedSource],
        intakes: Mapping[str, Intake],
        layout: BufferLayout,
        seed: int,
        crop: tuple[float, float] | None,
        augment: AugmentConfig,
    ) -> None:
        self.feeds, self.intakes, self.layout, self._seed, self._crop = feeds, intakes, layout, seed, crop
        media = {name: intake for name, intake in intakes.items() if not isinstance(intake, TextIntake)}
        self._put = {name: _put_ragged if intake.ragged else _put_whole for name, intake in media.items()}
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
        self._write(arrays, task.rows, seen, feed)
        return Filled(len(seen) + len(faults), tuple(faults))

    def _views(self, feed: DecodedSource, task: DecodeTask, arrays: Arrays) -> list[RandomView]:
        """How each sample is seen; pictures are drawn where they belong."""
        views = random_views(feed.name, self._seed, task.epochs, task.ids, self._crop)
        if "image" not in arrays:
            return views
        return [replace(view, canvas=arrays["image"][row]) for view, row in zip(views, task.rows, strict=True)]

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
        raise UserError(f"{len(row)} samples in a row are bad ({counts}), the last in {row[-1].shard}; mend the shards")

    def _write(self, arrays: Arrays, rows: Sequence[int], seen: Sequence[ViewedSample], feed: DecodedSource) -> None:
        for row, one in zip(rows, seen, strict=True):
            sample = one.sample
            arrays["id"][row] = feed.first + sample.id
            arrays["group"][row] = sample.group - feed.first if sample.group < 0 else sample.group
            for name, put in self._put.items():
                arrays[f"{name} present"][row] = name in sample.media
                if name in sample.media:
                    put(arrays, name, row, self._changed(name, one, feed))
            if "audio masks" in arrays and "audio" in sample.media:
                arrays["audio masks"][row] = self._augment.sound.masks(one.view.key)
        self._write_texts(arrays, rows, seen)

    def _changed(self, name: str, one: ViewedSample, feed: DecodedSource) -> Media:
        partner = self._partner(one, feed) if name == "audio" else None
        return self._augment(name, one.sample.media[name], one.view.key, partner)

    def _partner(self, one: ViewedSample, feed: DecodedSource) -> Media | None:
        """The sound that is mixed into this one, if one is drawn and it can be heard."""
        other = self._augment.sound.partner(one.view.key, one.sample.id, len(feed.decode.source))
        if other is None or feed.hear is None:
            return None
        (heard,) = feed.hear([other], [one.view])
        return heard.audio if isinstance(heard, Sample) else None

    def _write_texts(self, arrays: Arrays, rows: Sequence[int], seen: Sequence[ViewedSample]) -> None:
        """The captions of all rows at once, which tokenizers do sooner."""
        intake = self.intakes.get("text")
        if not isinstance(intake, TextIntake):
            return
        worded = {row: one.sample.text[0] for row, one in zip(rows, seen, strict=True) if one.sample.text}
        arrays["text present"][list(rows)] = [row in worded for row in rows]
        if worded:
            arrays["text"][list(worded)] = intake.tokenize(list(worded.values())).numpy()


def _put_whole(arrays: Arrays, name: str, row: int, media: Media) -> None:
    if not np.may_share_memory(media, arrays[name][row]):  # a picture may have been drawn here
        arrays[name][row] = media


def _put_ragged(arrays: Arrays, name: str, row: int, media: Media) -> None:
    arrays[f"{name} length"][row] = len(media)
    arrays[name][row, : len(media)] = media
    arrays[name][row, len(media) :] = 0


def _candidates(feed: DecodedSource, seed: int, epoch: int, id: int) -> Iterator[int]:
    source = feed.decode.source
    ends = np.cumsum(source.counts)
    shard = int(np.searchsorted(ends, id, side="right"))
    draw = keyed(f"substitute {feed.name}", seed, epoch, id)
    yield from draw.integers(ends[shard] - source.counts[shard], ends[shard], size=NEARBY).tolist()
    yield from draw.integers(len(source), size=ANYWHERE).tolist()

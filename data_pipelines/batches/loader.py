"""Makes training batches: plans which samples a batch holds, lets workers decode them, and collects the rows.

The samples of a global batch, their random views and the substitutes for bad ones depend only on the plan and on a
position in each source. So any number of ranks and workers makes the same global batches, and the state of the loader
is one integer for each source. A batch is sorted by the pieces of the layout (see `order`), and each rank takes a
contiguous part of it.

Shape letters: n samples of a rank's share of a batch.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from tercet.data_pipelines.bad_samples import BadSampleLog
from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.batches.buffers import Buffer, BufferPool
from tercet.data_pipelines.batches.decode_again import DecodeAgain
from tercet.data_pipelines.batches.decode_worker import DecodedSource, DecodeResult, DecodeTask, DecodeWorker
from tercet.data_pipelines.batches.feature_worker import FeatureWorker, reads_features_only
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.item import Decoder, Keeper, checked
from tercet.data_pipelines.decode.sound_pairs import decoder_of
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.plans.members import Members
from tercet.data_pipelines.plans.mixture import check_weights, quotas
from tercet.data_pipelines.plans.order import Ints, Order
from tercet.data_pipelines.plans.plan import Plan
from tercet.data_pipelines.plans.sample_list import SampleList
from tercet.data_pipelines.plans.schedule import make_schedule
from tercet.data_pipelines.sample import AudioIntake, Batch, ImageIntake, Intake
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.pool import worker_pool
from tercet.errors import UserError

BATCHES_AHEAD = 2
PLANNED_AT_ONCE = 4096  # samples whose ids are computed together, which takes hardly longer than for one


@dataclass(frozen=True)
class PlannedShare:
    """This rank's share of a batch, and the position of each source after the whole batch."""

    source_n: Ints
    position_n: Ints
    cursors: tuple[int, ...]


@dataclass(frozen=True)
class UnfinishedBatch:
    """A batch that workers are decoding: its buffer, and the number of its tasks."""

    buffer: Buffer
    tasks: int
    cursors: tuple[int, ...]


class Loader:
    """Training batches of one rank. `cursors` counts the samples of each source that all ranks have received so far."""

    def __init__(
        self,
        data: DataConfig,
        sources: Mapping[str, Source],
        intakes: Mapping[str, Intake],
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        start: Mapping[str, int] | None = None,
        folder: Path | None = None,
        further: Mapping[str, FieldSpec] | None = None,
        again: Mapping[str, FieldSpec] | None = None,
    ) -> None:
        """`start`: the `cursors` to resume at. `further`: the fields that the recipe adds to the modalities. `again`:
        the fields of pictures that `self.again` decodes at other sizes, for some items of a batch."""
        if batch_size % world:
            raise UserError(
                f"batch_size {batch_size} does not divide by {world} processes: {_nearest(batch_size, world)}"
            )
        self._graphs = {one.graph for one in (further or {}).values() if one.graph}
        self.schedule = make_schedule(data, sources, batch_size, seed, self._graphs)
        check_weights(self.plan, batch_size)
        self.batch_size, self._seed, self._opened = batch_size, seed, dict(sources)
        self.cursors = {name: (start or {}).get(name, 0) for name in sources}
        self.bad_log = BadSampleLog(data.max_bad, folder and folder / "bad_samples.jsonl")
        self._rank, self._share = rank, batch_size // world
        maker = BatchMaker(
            checked(intakes), further, data.augment.audio.masks, data.values, data.views is not None, bool(again)
        )
        layout = maker.layout(self._share)
        decoded = decoded_sources(data, sources, intakes, further, self.schedule.lists)
        shrunk = {name: _height(maker.fields[name]) / _height(field) for name, field in (again or {}).items()}
        kind = FeatureWorker if reads_features_only(decoded, maker) else DecodeWorker
        self._decode = kind(decoded, maker, layout, seed, data.crop, data.augment, data.views, shrunk)
        self._kind, self._workers = self._decode.pool(data)
        self._buffers = BufferPool(layout, shared=self._kind == "process" and self._workers > 0)
        self.again: DecodeAgain | None = None
        if again:
            pictures = _decoded_pictures(data, sources, again, further, decoded)
            self.again = DecodeAgain(data, pictures, again, self._share, seed, self.bad_log)
        self.sources = tuple(
            SourceIds(source.fingerprint, range(one.first, one.first + len(source)))
            for one, source in zip(decoded, sources.values(), strict=True)
        )

    def reopened(self, data: DataConfig, cursors: Mapping[str, int]) -> "Loader":
        """A loader of the same sources on another plan, from these cursors. Decoded samples that are kept, and the
        counts of bad ones, stay."""
        other = copy(self)
        other.schedule = make_schedule(data, self._opened, self.batch_size, self._seed, self._graphs)
        check_weights(other.plan, self.batch_size)
        other.cursors = {name: cursors.get(name, 0) for name in self.cursors}
        other._decode = copy(self._decode)
        other._decode.sources = [
            replace(one, members=Members(self._opened[one.name].counts, other.schedule.lists[one.name]))
            for one in self._decode.sources
        ]
        return other

    def redrawn(self, data: DataConfig, cursors: Mapping[str, int]) -> "Loader":
        """A loader on a plan of other samples. It starts at an epoch that no sample has had before these cursors, so
        that their random crops and captions are new, and at a whole batch."""
        epochs = {name: order.epoch(cursors.get(name, 0)) + 1 for name, order in self.schedule.orders.items()}
        other = self.reopened(data, cursors)
        sizes = other.schedule.per_batch
        starts = {name: epoch * other.schedule.orders[name].samples for name, epoch in epochs.items()}
        other.cursors = {name: -(-start // sizes[name]) * sizes[name] for name, start in starts.items()}
        return other

    @property
    def plan(self) -> Plan:
        return self.schedule.plan

    @property
    def bad(self) -> Counter[str]:
        """How many samples of this rank were bad, by reason."""
        return self.bad_log.reasons

    def epoch(self, cursors: Mapping[str, int]) -> int:
        """How many epochs are complete, of the source that has completed most."""
        return max(order.epoch(cursors[name]) for name, order in self.schedule.orders.items())

    def __iter__(self) -> Iterator[Batch]:
        """Ends only if no source repeats, after the last full batch."""
        unfinished: list[UnfinishedBatch] = []
        per_batch = -(-self._share // self._decode.chunk)
        ahead = max(BATCHES_AHEAD * per_batch, 2 * self._workers)
        with worker_pool(self._kind, self._workers, self._decode) as (pool, decode):
            results = in_order(decode, self._tasks(unfinished), pool, ahead)
            for first in results:
                batch = unfinished.pop(0)
                self._note(chain([first], islice(results, batch.tasks - 1)))
                self.cursors = dict(zip(self.cursors, batch.cursors, strict=True))
                arrays = self._buffers.hand_out(batch.buffer)
                yield replace(self._decode.maker.batch(arrays), cursors=self.cursors)

    def _tasks(self, unfinished: list[UnfinishedBatch]) -> Iterator[DecodeTask]:
        """The tasks of batch after batch. Each batch is appended to `unfinished` before its first task."""
        for planned, ids, epochs in self._with_ids():
            buffer = self._buffers.take()
            tasks = [
                DecodeTask(int(number), ids[rows].tolist(), epochs[rows].tolist(), rows.tolist(), buffer.path or buffer)
                for number in np.unique(planned.source_n)
                for rows in _chunks(np.flatnonzero(planned.source_n == number), self._decode.chunk)
            ]
            unfinished.append(UnfinishedBatch(buffer, len(tasks), planned.cursors))
            yield from tasks

    def _with_ids(self) -> Iterator[tuple[PlannedShare, Ints, Ints]]:
        """The planned shares with the ids and the epochs of their samples, computed for several batches at once."""
        shares = self._planned_shares()
        at_once = min(PLANNED_AT_ONCE // self._share, self.plan.samples // self.batch_size)  # at most about an epoch
        while block := list(islice(shares, max(1, at_once))):
            source = np.concatenate([one.source_n for one in block])
            position = np.concatenate([one.position_n for one in block])
            ids = self._by_source(source, position, lambda order, at: order.at(at))
            epochs = self._by_source(source, position, lambda order, at: order.appearance(at))
            for number in range(len(self._decode.sources)):
                self._decode.prefetch(number, ids[source == number].tolist())
            for i, one in enumerate(block):
                rows = slice(i * self._share, (i + 1) * self._share)
                yield one, ids[rows], epochs[rows]

    def _planned_shares(self) -> Iterator[PlannedShare]:
        cursors = np.array(list(self.cursors.values()), dtype=np.int64)
        while counts := quotas(self.plan, cursors.tolist(), self.batch_size):
            source = np.repeat(np.arange(len(counts)), counts)
            position = np.concatenate([at + np.arange(count) for at, count in zip(cursors, counts, strict=True)])
            piece = self._by_source(source, position, lambda order, at: order.piece(at))
            mine = np.argsort(piece, kind="stable")[self._rank * self._share :][: self._share]
            cursors = cursors + counts
            yield PlannedShare(source[mine], position[mine], tuple(cursors.tolist()))

    def _by_source(self, source: Ints, position: Ints, of: Callable[[Order, Ints], Ints]) -> Ints:
        values = np.empty_like(position)
        for number, order in enumerate(self.schedule.orders.values()):
            values[source == number] = of(order, position[source == number])
        return values

    def _note(self, results: Iterator[DecodeResult]) -> None:
        parts = list(results)
        self.bad_log.note(sum(part.seen for part in parts), [fault for part in parts for fault in part.faults])


def decoded_sources(
    data: DataConfig,
    sources: Mapping[str, Source],
    intakes: Mapping[str, Intake],
    further: Mapping[str, FieldSpec] | None,
    lists: Mapping[str, SampleList | None],
) -> list[DecodedSource]:
    decoded, first = [], 0
    kind = Keeper if data.keep else Decoder
    sounds = {name: intake for name, intake in intakes.items() if isinstance(intake, AudioIntake)}
    for name, source in sources.items():
        members, split = Members(source.counts, lists[name]), data.train[name]
        decode = decoder_of(source, intakes, split, data.exact_images, further, members, kind)
        decode_sound = Decoder(source, sounds, split) if data.augment.audio.mix else None
        decoded.append(DecodedSource(name, decode, first, members, decode_sound))
        first += len(source)
    return decoded


def _decoded_pictures(
    data: DataConfig,
    sources: Mapping[str, Source],
    again: Mapping[str, FieldSpec],
    further: Mapping[str, FieldSpec] | None,
    decoded: Sequence[DecodedSource],
) -> list[DecodedSource]:
    """The same sources, of which only these pictures are decoded. Captions are read where they say which pictures."""
    own = {name: field.intake for name, field in again.items() if name == field.modality}
    captions = {name: field for name, field in (further or {}).items() if field.modality == "text" and not field.graph}
    fields = {name: field for name, field in again.items() if name not in own} | captions
    kind = Keeper if data.keep else Decoder
    return [
        replace(one, decode=kind(source, own, data.train[one.name], data.exact_images, fields), decode_sound=None)
        for one, source in zip(decoded, sources.values(), strict=True)
    ]


def _height(field: FieldSpec) -> int:
    assert isinstance(field.intake, ImageIntake)
    return field.intake.size[0]


def _chunks(rows: Ints, size: int) -> list[Ints]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _nearest(batch_size: int, world: int) -> str:
    below, above = batch_size // world * world, -(-batch_size // world) * world
    return f"take {above}" if below == 0 else f"take {below} or {above}"

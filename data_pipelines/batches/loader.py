"""Sources to training batches: plan, order, decode and rows, composed.

Which samples a global batch holds, how each is seen, and what stands in for a bad one are pure functions of the plan
and of where every source stands. Any number of ranks and workers makes the same global batches, and the loader's whole
state is one integer a source. Within a batch the samples stand by piece of the layout (see `order`), and each rank
takes its contiguous part.

Shape letters: n samples of a rank's share of a batch, S sources.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from tercet.data_pipelines.bad_samples import Ledger
from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.batches.buffers import Buffer, BufferPool
from tercet.data_pipelines.batches.decode_worker import DecodedSource, DecodeTask, DecodeWorker, Filled
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.item import Decoder, Keeper, checked
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.plans.listed import build_order
from tercet.data_pipelines.plans.members import Members
from tercet.data_pipelines.plans.mixture import heard, quotas
from tercet.data_pipelines.plans.order import Ints, Order, own_seed
from tercet.data_pipelines.plans.plan import Plan, make_plan
from tercet.data_pipelines.plans.sample_list import SampleList, lists_of
from tercet.data_pipelines.sample import AudioIntake, Batch, Intake
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.pool import worker_pool
from tercet.errors import UserError

CHUNK = 32  # samples a worker takes at once: long enough to hide the hand-over, short enough to share a batch
BATCHES_AHEAD = 2
PLANNED = 4096  # samples whose places are worked out at once, which costs little more than one


@dataclass(frozen=True)
class Planned:
    """This rank's share of a batch, and where every source stands after the whole of it."""

    source_n: Ints
    position_n: Ints
    cursors: tuple[int, ...]


@dataclass(frozen=True)
class Begun:
    """A batch that is being put together."""

    slot: Buffer
    tasks: int
    cursors: tuple[int, ...]


class Loader:
    """Training batches. `cursors` counts the samples of each source that all ranks were handed so far in the run."""

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
    ) -> None:
        """`further`: the fields of the recipe beside one for each modality."""
        if batch_size % world:
            raise UserError(
                f"batch_size {batch_size} does not divide by {world} processes: {_nearest(batch_size, world)}"
            )
        lists = lists_of(data, sources)
        self.plan: Plan = heard(make_plan(data, sources, seed, lists), batch_size)
        self.batch_size = batch_size
        self.cursors = {name: (start or {}).get(name, 0) for name in sources}
        self.ledger = Ledger(data.max_bad, folder and folder / "bad_samples.jsonl")
        self._kind, self._workers = data.worker, data.workers
        self._rank, self._share = rank, batch_size // world
        self._orders = [
            build_order(source.counts, lists[name], own_seed(name, seed), data.streams, data.window)
            for name, source in sources.items()
        ]
        maker = BatchMaker(checked(intakes), further, data.augment.audio.masks)
        layout = maker.layout(self._share)
        self._slots = BufferPool(layout, shared=data.worker == "process" and data.workers > 0)
        feeds = _feeds(data, sources, intakes, further, lists)
        self._fill = DecodeWorker(feeds, maker, layout, seed, data.crop, data.augment)
        self.sources = tuple(
            SourceIds(source.fingerprint, range(feed.first, feed.first + len(source)))
            for feed, source in zip(feeds, sources.values(), strict=True)
        )

    @property
    def bad(self) -> Counter[str]:
        """Bad samples met on this rank, by reason."""
        return self.ledger.reasons

    def epoch(self, cursors: Mapping[str, int]) -> int:
        """How many times the source that was seen most often has been gone through."""
        return max(order.epoch(cursors[name]) for name, order in zip(self.cursors, self._orders, strict=True))

    def __iter__(self) -> Iterator[Batch]:
        """Ends only where no source repeats: with the last batch that the data fill."""
        begun: list[Begun] = []
        per_batch = -(-self._share // CHUNK)
        ahead = max(BATCHES_AHEAD * per_batch, 2 * self._workers)
        with worker_pool(self._kind, self._workers, self._fill) as (pool, fill):
            filled = in_order(fill, self._tasks(begun), pool, ahead)
            for first in filled:
                batch = begun.pop(0)
                self._note(chain([first], islice(filled, batch.tasks - 1)))
                self.cursors = dict(zip(self.cursors, batch.cursors, strict=True))
                arrays = self._slots.hand_out(batch.slot)
                yield replace(self._fill.maker.batch(arrays), cursors=self.cursors)

    def _tasks(self, begun: list[Begun]) -> Iterator[DecodeTask]:
        """The work for batch after batch; each batch is noted in `begun` before its first task."""
        for planned, ids, epochs in self._placed():
            slot = self._slots.take()
            tasks = [
                DecodeTask(int(feed), ids[rows].tolist(), epochs[rows].tolist(), rows.tolist(), slot.path or slot)
                for feed in np.unique(planned.source_n)
                for rows in _chunks(np.flatnonzero(planned.source_n == feed))
            ]
            begun.append(Begun(slot, len(tasks), planned.cursors))
            yield from tasks

    def _placed(self) -> Iterator[tuple[Planned, Ints, Ints]]:
        """Plans with the ids and the epochs of their samples, worked out for several batches at once."""
        plans = self._plans()
        at_once = min(PLANNED // self._share, self.plan.samples // self.batch_size)  # more would be of many epochs
        while block := list(islice(plans, max(1, at_once))):
            source = np.concatenate([one.source_n for one in block])
            position = np.concatenate([one.position_n for one in block])
            ids = self._by_source(source, position, lambda order, at: order.at(at))
            epochs = self._by_source(source, position, lambda order, at: order.appearance(at))
            for number, feed in enumerate(self._fill.feeds):
                feed.decode.source.prefetch(ids[source == number].tolist())
            for i, one in enumerate(block):
                rows = slice(i * self._share, (i + 1) * self._share)
                yield one, ids[rows], epochs[rows]

    def _plans(self) -> Iterator[Planned]:
        cursors = np.array(list(self.cursors.values()), dtype=np.int64)
        while counts := quotas(self.plan, cursors.tolist(), self.batch_size):
            source = np.repeat(np.arange(len(counts)), counts)
            position = np.concatenate([at + np.arange(count) for at, count in zip(cursors, counts, strict=True)])
            piece = self._by_source(source, position, lambda order, at: order.piece(at))
            mine = np.argsort(piece, kind="stable")[self._rank * self._share :][: self._share]
            cursors = cursors + counts
            yield Planned(source[mine], position[mine], tuple(cursors.tolist()))

    def _by_source(self, source: Ints, position: Ints, of: Callable[[Order, Ints], Ints]) -> Ints:
        values = np.empty_like(position)
        for number, order in enumerate(self._orders):
            values[source == number] = of(order, position[source == number])
        return values

    def _note(self, filled: Iterator[Filled]) -> None:
        parts = list(filled)
        self.ledger.note(sum(part.seen for part in parts), [fault for part in parts for fault in part.faults])


def _feeds(
    data: DataConfig,
    sources: Mapping[str, Source],
    intakes: Mapping[str, Intake],
    further: Mapping[str, FieldSpec] | None,
    lists: Mapping[str, SampleList | None],
) -> list[DecodedSource]:
    feeds, first = [], 0
    kind = Keeper if data.keep else Decoder
    sounds = {name: intake for name, intake in intakes.items() if isinstance(intake, AudioIntake)}
    for name, source in sources.items():
        decode = kind(source, intakes, data.train[name], data.exact_images, further)
        hear = Decoder(source, sounds, data.train[name]) if data.augment.audio.mix else None
        feeds.append(DecodedSource(name, decode, first, Members(source.counts, lists[name]), hear))
        first += len(source)
    return feeds


def _chunks(rows: Ints) -> list[Ints]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def _nearest(batch_size: int, world: int) -> str:
    below, above = batch_size // world * world, -(-batch_size // world) * world
    return f"take {above}" if below == 0 else f"take {below} or {above}"

"""Shards to batches: index, order, decode and collate, composed.

The global batch is the positions from the cursor on; rank r takes its r-th contiguous part. Positions, crops, captions
and the substitutes of bad samples are pure functions of the seed and the position, so that any number of ranks and
workers sees the same global batches, and the loader's whole state is its cursor.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tercet.data_pipelines.ahead import in_order
from tercet.data_pipelines.bad_samples import BadSample, Fault, Ledger
from tercet.data_pipelines.collate import collate
from tercet.data_pipelines.decode.item import Decoder, Keeper, checked
from tercet.data_pipelines.keyed import keyed
from tercet.data_pipelines.order import Order
from tercet.data_pipelines.sample import Batch, Intake, Sample
from tercet.data_pipelines.shards.read import Shards
from tercet.data_pipelines.transforms.crop import RandomView
from tercet.errors import UserError

CHUNK = 16  # samples a thread takes at once: long enough to hide the hand-over, short enough to share a batch
BATCHES_AHEAD = 2
SUBSTITUTES = 64  # tries for a good sample before the data is taken to be broken altogether


@dataclass(frozen=True)
class Part:
    """What became of some positions: the samples to use, and those that were bad on the way to them."""

    samples: tuple[Sample, ...]
    faults: tuple[Fault, ...]

    @property
    def seen(self) -> int:
        return len(self.samples) + len(self.faults)

    def __bool__(self) -> bool:
        return self.seen > 0


def joined(parts: Iterable[Part]) -> Part:
    kept = list(parts)
    return Part(
        tuple(sample for part in kept for sample in part.samples),
        tuple(fault for part in kept for fault in part.faults),
    )


class Loader:
    """Training batches without end. `cursor` counts the samples of the whole run, over all ranks, handed out so far."""

    def __init__(
        self,
        source: Shards,
        intakes: Mapping[str, Intake],
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        workers: int = 2,
        crop: tuple[float, float] | None = None,
        max_bad: float = 0.01,
        folder: Path | None = None,
        keep: bool = False,
    ) -> None:
        """`keep`: each sample is decoded once and stays in memory."""
        if batch_size % world:
            raise UserError(
                f"batch_size {batch_size} does not divide by {world} processes: {_nearest(batch_size, world)}"
            )
        self.intakes = checked(intakes)
        self.batch_size = batch_size
        self.cursor = start
        self.workers = workers
        self.ledger = Ledger(max_bad, folder and folder / f"bad_samples.rank{rank}.jsonl")
        self._share = batch_size // world
        self._rank = rank
        self._crop = crop
        self._order = Order(len(source), seed)
        decode = Decoder(source, intakes)
        self._decode = Keeper(decode) if keep else decode

    @property
    def bad(self) -> Counter[str]:
        """Bad samples met on this rank, by reason."""
        return self.ledger.reasons

    @property
    def epoch(self) -> int:
        """How many times the data have been gone through."""
        return self._order.epoch(self.cursor)

    def __iter__(self) -> Iterator[Batch]:
        per_batch = -(-self._share // CHUNK)
        ahead = max(BATCHES_AHEAD * per_batch, 2 * self.workers)
        parts = in_order(self._take, self._chunks(), self.workers, ahead)
        whole = iter(lambda: joined(islice(parts, per_batch)), None)
        for part, batch in in_order(self._collate, whole, min(self.workers, 1), ahead=1):
            self.cursor += self.batch_size
            self.ledger.note(part.seen, part.faults)
            yield batch

    def _chunks(self) -> Iterator[range]:
        """This rank's positions, some at a time; no chunk reaches over the end of a batch."""
        cursor = self.cursor
        while True:
            first = cursor + self._rank * self._share
            for start in range(first, first + self._share, CHUNK):
                yield range(start, min(start + CHUNK, first + self._share))
            cursor += self.batch_size

    def _take(self, positions: range) -> Part:
        return joined(self._at(position) for position in positions)

    def _at(self, position: int) -> Part:
        """The sample at a position, or its first good substitute."""
        faults: list[Fault] = []
        epoch = self._order.epoch(position)
        for id in self._candidates(position, epoch):
            try:
                sample = self._decode(id, RandomView(self._order.seed, epoch, id, self._crop))
            except BadSample as bad:
                faults.append(self._decode.fault(id, bad.reason))
            else:
                return Part((sample,), tuple(faults))
        counts = ", ".join(f"{count} × {reason}" for reason, count in Counter(fault.reason for fault in faults).items())
        raise UserError(
            f"{len(faults)} samples in a row are bad ({counts}), the last in {faults[-1].shard}; mend the shards"
        )

    def _candidates(self, position: int, epoch: int) -> Iterator[int]:
        id = self._order.at(position)
        yield id
        draw = keyed("substitute", self._order.seed, epoch, id)
        yield from draw.integers(self._order.count, size=SUBSTITUTES).tolist()

    def _collate(self, part: Part) -> tuple[Part, Batch]:
        return part, collate(part.samples, self.intakes)


def _nearest(batch_size: int, world: int) -> str:
    below, above = batch_size // world * world, -(-batch_size // world) * world
    return f"take {above}" if below == 0 else f"take {below} or {above}"

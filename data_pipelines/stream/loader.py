"""Makes training batches from shards without an index: for shards that are too remote to keep, or read only once.

Shards are opened, checked, grouped and shuffled as their bytes arrive (webdataset's stages), and decoded like indexed
ones, with the same rules for bad samples; a bad one is replaced by the next of the stream. Every rank has the requested
number of steps. What only an index can give is missing:

- Ids are not dense: 63 bits of a hash of shard and key.
- The order is a pure function of the seed, the number of ranks and the place of the start, for any number of workers;
  another number of ranks makes other batches. Consecutive epochs mix within the shuffle buffer.
- A run resumes at a shard: samples of shards that were begun are seen again, up to a shard and a shuffle buffer on each
  rank, and as many as the rank was ahead of the slowest.
- Damage of a shard shows only when it is read, and a flipped byte in a payload only if the decoder notices it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from itertools import chain, islice, repeat
from pathlib import Path, PurePosixPath
from random import Random

from webdataset.filters import shuffle

from tercet.data_pipelines.bad_samples import BadSample, Ledger
from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.batches.loader import BATCHES_AHEAD
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.item import checked
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.plans.plan import Plan, Share
from tercet.data_pipelines.sample import Batch, Intake
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.shards.address import redacted
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.sources.part import part_by_shard
from tercet.data_pipelines.stream.decode import DecodedItem, Eyes
from tercet.data_pipelines.stream.reader import Item, ShardReader
from tercet.data_pipelines.stream.sequence import turns
from tercet.data_pipelines.stream.shard_progress import Passage
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.pool import worker_pool
from tercet.errors import UserError

CHUNK = 16  # samples a thread takes at once
IN_A_ROW = 1024  # bad samples in a row after which the run stops


class StreamLoader:
    """Training batches without end. `cursor` counts the samples handed out on all ranks."""

    def __init__(
        self,
        data: DataConfig,
        intakes: Mapping[str, Intake],
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        shuffled: int = 1000,
        folder: Path | None = None,
        patience: Patience | None = None,
        shards: Sequence[str] | None = None,
        further: Mapping[str, FieldSpec] | None = None,
    ) -> None:
        """`start`: to resume, the least `place` of all ranks, however many there were. `shuffled`: how many samples are
        held, undecoded, to be mixed. `shards`: those of the source, where they are listed already."""
        if batch_size % world:
            raise UserError(f"batch_size {batch_size} does not divide by {world} processes: take a multiple of {world}")
        if len(data.train) > 1:
            raise UserError(f"a stream has one source, and data.train names {len(data.train)}: {', '.join(data.train)}")
        ((name, source),) = data.train.items()
        found = find_shards(source.source) if shards is None else shards
        shards = part_by_shard(found, source.part) if source.part else found
        self.batch_size, self.cursor, self._name = batch_size, 0, name
        share = Share(name, source.weight, True, len(shards), _named(shards))
        self.plan = Plan(seed, world, shuffled, "stream", (share,))
        self.sources: tuple[SourceIds, ...] = ()
        self.ledger = Ledger(data.max_bad, folder and folder / "bad_samples.jsonl")
        self._share, self._workers, self._shuffled = batch_size // world, data.workers, shuffled
        self._eyes = Eyes(data, name, source, checked(intakes), further, seed)
        self._reader = ShardReader(shards, self._eyes.wanted, data.missing, patience or Patience())
        self._turns = partial(turns, shards, seed, rank, world)
        self._random = partial(keyed, "stream", seed, item=rank)
        self._passage = Passage(self._turns(start))

    @property
    def bad(self) -> Counter[str]:
        """Bad samples met on this rank, by reason."""
        return self.ledger.reasons

    @property
    def place(self) -> int:
        """The first shard of the sequence that this rank has not handed out all of."""
        return self._passage.place

    def epoch(self, cursors: Mapping[str, int]) -> int:
        """How many times the data have been read."""
        return cursors[self._name] // len(self._reader.shards)

    def __iter__(self) -> Iterator[Batch]:
        ahead = max(BATCHES_AHEAD * -(-self._share // CHUNK), 2 * self._workers)
        with (
            worker_pool("thread", min(self._workers, 1), _chunk) as (reader, chunk),
            worker_pool("thread", self._workers, self._eyes.look) as (pool, look),
        ):
            chunks = in_order(chunk, repeat(self._mixed()), reader, ahead)
            seen = chain.from_iterable(in_order(look, chunks, pool, ahead))
            for taken, batch in in_order(self._collated, _taken(seen, self._share), pool, 1):
                self._note(taken)
                yield replace(batch, cursors={self._name: self.place})

    def _mixed(self) -> Iterator[Item]:
        """The next samples, shuffled before they are decoded."""
        random = Random(int(self._random(epoch=self.place).integers(2**63)))
        self._passage = Passage(self._turns(self.place))  # shards that an earlier iteration had begun start again
        items = self._reader.items(self._turns(self.place), self._passage.close)
        mixed: Iterator[Item] = shuffle(self._shuffled, self._shuffled // 10, random)(items)
        return mixed

    def _collated(self, taken: list[DecodedItem]) -> tuple[list[DecodedItem], Batch]:
        return taken, self._eyes.batch(taken)

    def _note(self, taken: list[DecodedItem]) -> None:
        self.cursor += self.batch_size
        faults = [one.item.fault(one.sample.reason) for one in taken if isinstance(one.sample, BadSample)]
        self.ledger.note(len(taken), faults)
        self._passage.hand_out(one.item.turn.place for one in taken)


def _named(shards: Sequence[str]) -> str:
    """A digest of the names of the shards, because nothing else is known before they are read."""
    names = "\n".join(PurePosixPath(redacted(shard)).name for shard in shards)
    return blake2b(names.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _chunk(items: Iterator[Item]) -> list[Item]:
    return list(islice(items, CHUNK))


def _taken(seen: Iterator[DecodedItem], share: int) -> Iterator[list[DecodedItem]]:
    """Yields as many items as contain a rank's share of good samples, without end."""
    while True:
        yield [one for _ in range(share) for one in _to_the_next_good(seen)]


def _to_the_next_good(seen: Iterator[DecodedItem]) -> list[DecodedItem]:
    """The next good sample, after the bad ones before it."""
    row: list[DecodedItem] = []
    while len(row) < IN_A_ROW:
        one = next(seen)
        row.append(one)
        if not isinstance(one.sample, BadSample):
            return row
    counts = Counter(one.sample.reason for one in row if isinstance(one.sample, BadSample))
    said = ", ".join(f"{count} × {reason}" for reason, count in counts.items())
    shard = redacted(row[-1].item.turn.shard)
    raise UserError(f"{len(row)} samples in a row are bad ({said}), the last in {shard}; fix the shards")

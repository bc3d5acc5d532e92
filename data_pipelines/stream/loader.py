"""Makes training batches from shards without an index: for remote shards that are not cached, or read only once.

Shards are opened, checked, grouped and shuffled as their bytes arrive (webdataset's stages), and decoded like indexed
ones, with the same rules for bad samples: the next sample of the stream replaces a bad one. Every rank runs the same
number of steps. Some guarantees need an index, and do not hold here:

- Ids are not dense: 63 bits of a hash of shard and key.
- The order depends only on the seed, the number of ranks and the shard where the run starts, not on the number of
  workers. Another number of ranks makes other batches. Consecutive epochs mix within the shuffle buffer.
- A run resumes at the start of a shard and reads its samples again: on each rank up to a shard and a shuffle buffer,
  and as many samples as the rank was ahead of the slowest.
- A damaged shard is found only when it is read, and a flipped byte in a payload only if the decoder notices it.
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

from tercet.data_pipelines.bad_samples import BadSample, BadSampleLog
from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.batches.loader import BATCHES_AHEAD
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.item import checked
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.plans.plan import Plan, SourceShare
from tercet.data_pipelines.sample import Batch, Intake
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.shards.address import redacted
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.patience import Patience
from tercet.data_pipelines.sources.part import part_by_shard
from tercet.data_pipelines.stream.decode import DecodedItem, StreamDecoder
from tercet.data_pipelines.stream.reader import ShardReader, StreamItem
from tercet.data_pipelines.stream.sequence import turns
from tercet.data_pipelines.stream.shard_progress import ShardProgress
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.pool import worker_pool
from tercet.errors import UserError

CHUNK = 16  # samples that a thread decodes at once
IN_A_ROW = 1024  # bad samples in a row after which the run stops


class StreamLoader:
    """Training batches without end. `cursor` counts the samples that all ranks have received."""

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
        """`start`: to resume, the smallest `place` of all ranks of the earlier run. `shuffled`: how many undecoded
        samples the shuffle buffer holds. `shards`: the shards of the source, if they are listed already."""
        if batch_size % world:
            raise UserError(f"batch_size {batch_size} does not divide by {world} processes: set a multiple of {world}")
        if len(data.train) > 1:
            raise UserError(
                f"data.mode=stream reads one source, but data.train names {len(data.train)} ({', '.join(data.train)}). "
                "Keep one, or set data.mode=index"
            )
        ((name, source),) = data.train.items()
        found = find_shards(source.source) if shards is None else shards
        shards = part_by_shard(found, source.part) if source.part else found
        self.batch_size, self.cursor, self._name = batch_size, 0, name
        share = SourceShare(name, source.weight, True, len(shards), _names_digest(shards))
        self.plan = Plan(seed, world, shuffled, "stream", (share,))
        self.sources: tuple[SourceIds, ...] = ()
        self.bad_log = BadSampleLog(data.max_bad, folder and folder / "bad_samples.jsonl")
        self._share, self._workers, self._shuffled = batch_size // world, data.workers, shuffled
        self._decoder = StreamDecoder(data, name, source, checked(intakes), further, seed)
        self._reader = ShardReader(shards, self._decoder.wanted, data.missing, patience or Patience())
        self._turns = partial(turns, shards, seed, rank, world)
        self._random = partial(keyed, "stream", seed, item=rank)
        self._progress = ShardProgress(self._turns(start))

    @property
    def bad(self) -> Counter[str]:
        """How many samples of this rank were bad, by reason."""
        return self.bad_log.reasons

    @property
    def place(self) -> int:
        """The first shard of the sequence that this rank has not finished."""
        return self._progress.place

    def epoch(self, cursors: Mapping[str, int]) -> int:
        """How many times the data have been read."""
        return cursors[self._name] // len(self._reader.shards)

    def __iter__(self) -> Iterator[Batch]:
        ahead = max(BATCHES_AHEAD * -(-self._share // CHUNK), 2 * self._workers)
        with (
            worker_pool("thread", min(self._workers, 1), _chunk) as (reader, chunk),
            worker_pool("thread", self._workers, self._decoder.decode) as (pool, decode),
        ):
            chunks = in_order(chunk, repeat(self._shuffled_items()), reader, ahead)
            decoded = chain.from_iterable(in_order(decode, chunks, pool, ahead))
            for taken, batch in in_order(self._collated, _per_batch(decoded, self._share), pool, 1):
                self._note(taken)
                yield replace(batch, cursors={self._name: self.place})

    def _shuffled_items(self) -> Iterator[StreamItem]:
        """The next samples, undecoded, in shuffled order."""
        random = Random(int(self._random(epoch=self.place).integers(2**63)))
        self._progress = ShardProgress(self._turns(self.place))  # unfinished shards start again
        items = self._reader.items(self._turns(self.place), self._progress.close)
        shuffled: Iterator[StreamItem] = shuffle(self._shuffled, self._shuffled // 10, random)(items)
        return shuffled

    def _collated(self, taken: list[DecodedItem]) -> tuple[list[DecodedItem], Batch]:
        return taken, self._decoder.collate(taken)

    def _note(self, taken: list[DecodedItem]) -> None:
        self.cursor += self.batch_size
        faults = [one.item.fault(one.sample.reason) for one in taken if isinstance(one.sample, BadSample)]
        self.bad_log.note(len(taken), faults)
        self._progress.hand_out(one.item.turn.place for one in taken)


def _names_digest(shards: Sequence[str]) -> str:
    """A digest of the names of the shards: their contents are unknown before they are read."""
    names = "\n".join(PurePosixPath(redacted(shard)).name for shard in shards)
    return blake2b(names.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _chunk(items: Iterator[StreamItem]) -> list[StreamItem]:
    return list(islice(items, CHUNK))


def _per_batch(decoded: Iterator[DecodedItem], share: int) -> Iterator[list[DecodedItem]]:
    """For each batch, the items that give a rank its share of good samples, and the bad ones between them."""
    while True:
        yield [one for _ in range(share) for one in _next_good(decoded)]


def _next_good(decoded: Iterator[DecodedItem]) -> list[DecodedItem]:
    """The bad samples up to the next good one, and that one."""
    row: list[DecodedItem] = []
    while len(row) < IN_A_ROW:
        one = next(decoded)
        row.append(one)
        if not isinstance(one.sample, BadSample):
            return row
    counts = Counter(one.sample.reason for one in row if isinstance(one.sample, BadSample))
    reasons = ", ".join(f"{count} × {reason}" for reason, count in counts.items())
    shard = redacted(row[-1].item.turn.shard)
    raise UserError(f"{len(row)} samples in a row are bad ({reasons}), the last in {shard}. Fix or remove the shards")

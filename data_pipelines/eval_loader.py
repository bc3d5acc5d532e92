"""Every held-out sample once, in index order and seen whole: first caption, centre of the picture, all of the clip."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tercet.data_pipelines.ahead import in_order
from tercet.data_pipelines.bad_samples import BadSample, Ledger
from tercet.data_pipelines.collate import collate, undecoded
from tercet.data_pipelines.decode.item import Decoder, checked
from tercet.data_pipelines.loader import BATCHES_AHEAD, CHUNK, Part, joined
from tercet.data_pipelines.sample import Batch, Intake
from tercet.data_pipelines.shards.read import Shards
from tercet.data_pipelines.transforms.crop import CentreView


class EvalLoader:
    """Batches of `batch_size` for this rank, whose part of the index is contiguous; ranks may differ in number.

    Bad samples are left out and counted. A batch keeps its `samples`, with keys, captions, negatives and meta.
    """

    def __init__(
        self,
        source: Shards,
        intakes: Mapping[str, Intake],
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
        workers: int = 2,
        max_bad: float = 0.01,
        folder: Path | None = None,
    ) -> None:
        self.intakes = checked(intakes)
        self.batch_size = batch_size
        self.workers = workers
        self.ledger = Ledger(max_bad, folder and folder / f"bad_samples.eval.rank{rank}.jsonl")
        self._ids = range(rank * len(source) // world, (rank + 1) * len(source) // world)
        self._decode = Decoder(source, intakes)

    @property
    def bad(self) -> Counter[str]:
        """Bad samples met on this rank in the last walk, by reason."""
        return self.ledger.reasons

    def __iter__(self) -> Iterator[Batch]:
        self.ledger.restart()
        parts = in_order(
            self._take, self._chunks(), self.workers, max(BATCHES_AHEAD * self._per_batch, 2 * self.workers)
        )
        while part := joined(islice(parts, self._per_batch)):
            self.ledger.note(part.seen, part.faults)
            if part.samples:
                yield replace(collate(part.samples, self.intakes), samples=undecoded(part.samples))

    @property
    def _per_batch(self) -> int:
        return -(-self.batch_size // CHUNK)

    def _chunks(self) -> Iterator[range]:
        for first in range(self._ids.start, self._ids.stop, self.batch_size):
            stop = min(first + self.batch_size, self._ids.stop)
            for start in range(first, stop, CHUNK):
                yield range(start, min(start + CHUNK, stop))

    def _take(self, ids: range) -> Part:
        return joined(self._one(id) for id in ids)

    def _one(self, id: int) -> Part:
        try:
            return Part((self._decode(id, CentreView()),), ())
        except BadSample as bad:
            return Part((), (self._decode.fault(id, bad.reason),))

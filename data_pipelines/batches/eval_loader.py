"""Reads each sample once, in order, for evaluation: the first caption or several, centre crop of the picture, whole
sound."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice, repeat

from tercet.data_pipelines.bad_samples import BadSample, BadSampleLog, Fault
from tercet.data_pipelines.batches.batch_maker import BatchMaker, without_media
from tercet.data_pipelines.batches.loader import BATCHES_AHEAD
from tercet.data_pipelines.decode.item import Decoder, checked
from tercet.data_pipelines.fields import own_fields
from tercet.data_pipelines.sample import Batch, Intake, Sample, TextIntake
from tercet.data_pipelines.transforms.crop import CentreView
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.pool import worker_pool

CHUNK = 16  # samples that a thread decodes at once
Found = list[tuple[int, Sample | BadSample]]  # by id


class EvalLoader:
    """Batches of a contiguous part of the source for each rank. Ranks may have different numbers of batches.

    Bad samples are left out; `faults` lists those of the last iteration. A batch keeps its `samples`, with keys,
    captions, negatives and meta. Threads decode, because sounds may have any length, and evaluation is short.
    """

    def __init__(
        self,
        decode: Decoder,
        intakes: Mapping[str, Intake],
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
        ids: Sequence[int] | None = None,
        workers: int = 2,
        max_bad: float = 0.01,
        captions: int | None = 1,
    ) -> None:
        """`ids`: read these samples instead of the part of the rank. `captions`: so many of a sample at most; None: all
        of them."""
        self._intakes, self._captions = checked(intakes), captions
        self._makers: dict[int, BatchMaker] = {}
        self.batch_size = batch_size
        self.workers = workers
        self.bad_log = BadSampleLog(max_bad)
        self.faults: list[Fault] = []
        count = len(decode.source)
        self._ids = range(rank * count // world, (rank + 1) * count // world) if ids is None else ids
        self._decode = decode

    def __iter__(self) -> Iterator[Batch]:
        self.bad_log.restart()
        self.faults.clear()
        per_batch = -(-self.batch_size // CHUNK)
        with worker_pool("thread", self.workers, self._take) as (pool, take):
            chunks = in_order(take, self._chunks(), pool, max(BATCHES_AHEAD * per_batch, 2 * self.workers))
            while found := list(chain.from_iterable(islice(chunks, per_batch))):
                faults = [self._decode.fault(id, one.reason) for id, one in found if isinstance(one, BadSample)]
                self.faults += faults
                self.bad_log.note(len(found), faults)
                samples = [one for _, one in found if isinstance(one, Sample)]
                if samples:
                    yield replace(self._maker(samples).collate(samples), samples=without_media(samples))

    def _maker(self, samples: Sequence[Sample]) -> BatchMaker:
        """With as many rows for captions as these samples need."""
        held = max(len(sample.text) for sample in samples)
        rows = max(held if self._captions is None else min(held, self._captions), 1)
        if rows not in self._makers:
            own = own_fields(self._intakes).items()
            texts = {name: replace(field, rows=rows) for name, field in own if isinstance(field.intake, TextIntake)}
            self._makers[rows] = BatchMaker(self._intakes, texts)
        return self._makers[rows]

    def _chunks(self) -> Iterator[Sequence[int]]:
        for first in range(0, len(self._ids), self.batch_size):
            batch = self._ids[first : first + self.batch_size]
            for start in range(0, len(batch), CHUNK):
                yield batch[start : start + CHUNK]

    def _take(self, ids: Sequence[int]) -> Found:
        return list(zip(ids, self._decode(ids, repeat(CentreView(), len(ids))), strict=True))

"""Decodes the pictures of chosen samples again, at another size.

A super-batch may hold small pictures, from which a rule chooses. The chosen samples are then read again from their
files, with the same random crop and the same changes: the epoch of each item, which the batch holds, draws these again.

Shape letters: k items that have a picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import replace
from weakref import finalize

import numpy as np
import torch

from tercet.data_pipelines.bad_samples import BadSample, BadSampleLog, Fault
from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.batches.buffers import Buffer, BufferPool
from tercet.data_pipelines.batches.decode_worker import DecodedSource, DecodeTask, DecodeWorker, ViewedSample
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.plans.order import Ints
from tercet.data_pipelines.sample import Batch, Sample
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.pool import died, worker_pool

CHUNK = 8  # samples of one task: few, because the step waits for the slowest worker


class PictureWorker(DecodeWorker):
    """Decodes pictures of samples whose captions the batch has. So none replaces a bad one."""

    def _substitute(
        self, source: DecodedSource, id: int, epoch: int, bad: BadSample, faults: list[Fault]
    ) -> ViewedSample:
        faults.append(source.decode.fault(id, bad.reason))
        (view,) = self.random_views(source, [id], [epoch])
        return ViewedSample(Sample(source.decode.source.key(id), id, id), view)


class DecodeAgain:
    """Gives the pictures of a batch the sizes that `fields` have. A picture that is bad this time is left out."""

    def __init__(
        self,
        data: DataConfig,
        sources: Sequence[DecodedSource],
        fields: Mapping[str, FieldSpec],
        items: int,
        seed: int,
        bad_log: BadSampleLog,
    ) -> None:
        """`items`: how many a batch has at most."""
        own = {name: field.intake for name, field in fields.items() if name == field.modality}
        self._maker = BatchMaker(own, {name: field for name, field in fields.items() if name not in own})
        self._sources, self._fields, self._bad_log = sources, tuple(fields), bad_log
        layout = self._maker.layout(items)
        self._buffers = BufferPool(layout, shared=data.worker == "process" and data.workers > 0)
        decode = PictureWorker(sources, self._maker, layout, seed, data.crop, data.augment, data.views)
        stack = ExitStack()
        self._pool, self._decode = stack.enter_context(worker_pool(data.worker, data.workers, decode))
        finalize(self, stack.close)

    def __call__(self, batch: Batch) -> Batch:
        assert batch.epochs is not None
        item_k = torch.unique(torch.cat([batch.fields[name].item for name in self._fields]))
        buffer = self._buffers.take()
        tasks = self._tasks(batch.ids[item_k].cpu().numpy(), batch.epochs[item_k].cpu().numpy(), buffer)
        try:
            results = list(in_order(self._decode, tasks, self._pool, len(item_k)))
        except BrokenProcessPool:
            raise died() from None
        self._bad_log.note(0, [fault for result in results for fault in result.faults])
        arrays = {name: array[: len(item_k)] for name, array in self._buffers.hand_out(buffer).items()}
        found = self._maker.batch(arrays).to(batch.ids.device).fields
        fields = {name: replace(found[name], item=item_k[found[name].item]) for name in self._fields}
        return replace(batch, fields={**batch.fields, **fields}, epochs=None)

    def _tasks(self, ids: Ints, epochs: Ints, buffer: Buffer) -> Iterator[DecodeTask]:
        for number, source in enumerate(self._sources):
            among = (ids >= source.first) & (ids < source.first + len(source.decode.source))
            for rows in np.split(np.flatnonzero(among), range(CHUNK, int(among.sum()), CHUNK)):
                if len(rows):
                    own = (ids[rows] - source.first).tolist()
                    yield DecodeTask(number, own, epochs[rows].tolist(), rows.tolist(), buffer.path or buffer)

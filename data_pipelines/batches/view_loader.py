"""Reads every sample of a source in each of its stored views, exactly as training decodes and augments it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch

from tercet.data_pipelines.bad_samples import BadSampleLog
from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.batches.buffers import Buffer, BufferPool
from tercet.data_pipelines.batches.decode_worker import DecodeResult, DecodeTask, DecodeWorker
from tercet.data_pipelines.batches.loader import BATCHES_AHEAD, decoded_sources
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.item import checked
from tercet.data_pipelines.sample import Batch, Intake
from tercet.data_pipelines.source import Source
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.pool import worker_pool
from tercet.errors import UserError

SAMPLES = 256  # of one batch


@dataclass(frozen=True)
class ViewBatch:
    """Some samples of a piece in their views of this number, without those that cannot be decoded."""

    piece: range
    view: int
    batch: Batch


@dataclass(frozen=True)
class _Unfinished:
    piece: range
    view: int
    ids: range
    buffer: Buffer
    tasks: int


class ViewLoader:
    """The batches of these pieces of a source, by view, one piece after the other."""

    def __init__(
        self,
        data: DataConfig,
        name: str,
        source: Source,
        intakes: Mapping[str, Intake],
        pieces: Sequence[range],
    ) -> None:
        if data.views is None:
            raise UserError("data.views is not set, so the number of views is unknown; set it, such as {count: 10}")
        maker = BatchMaker(checked(intakes), seeds=True)
        layout = maker.layout(SAMPLES)
        self._maker, self._pieces, self._views = maker, pieces, data.views.count
        self._kind, self._workers = data.worker, data.workers
        self._buffers = BufferPool(layout, shared=data.worker == "process" and data.workers > 0)
        decoded = decoded_sources(data, {name: source}, intakes, None, {name: None})
        self._decode = DecodeWorker(decoded, maker, layout, 0, data.crop, data.augment, data.views)
        self.bad_log = BadSampleLog(data.max_bad)

    def __iter__(self) -> Iterator[ViewBatch]:
        unfinished: list[_Unfinished] = []
        ahead = max(BATCHES_AHEAD * SAMPLES // self._decode.chunk, 2 * self._workers)
        with worker_pool(self._kind, self._workers, self._decode) as (pool, decode):
            results = in_order(decode, self._tasks(unfinished), pool, ahead)
            for first in results:
                one = unfinished.pop(0)
                self._note(chain([first], islice(results, one.tasks - 1)))
                batch = self._maker.batch(self._buffers.hand_out(one.buffer))
                planned = torch.full((SAMPLES,), -1)
                planned[: len(one.ids)] = torch.tensor(one.ids)
                yield ViewBatch(one.piece, one.view, batch.items(torch.nonzero(batch.ids == planned).flatten()))

    def _tasks(self, unfinished: list[_Unfinished]) -> Iterator[DecodeTask]:
        for piece, view, start in self._stretches():
            ids, buffer = piece[start : start + SAMPLES], self._buffers.take()
            size = self._decode.chunk
            rows = [range(first, min(first + size, len(ids))) for first in range(0, len(ids), size)]
            unfinished.append(_Unfinished(piece, view, ids, buffer, len(rows)))
            for some in rows:
                chosen = [ids[row] for row in some]
                yield DecodeTask(0, chosen, [view] * len(some), list(some), buffer.path or buffer)

    def _stretches(self) -> Iterator[tuple[range, int, int]]:
        for piece in self._pieces:
            for view in range(self._views):
                for start in range(0, len(piece), SAMPLES):
                    yield piece, view, start

    def _note(self, results: Iterator[DecodeResult]) -> None:
        parts = list(results)
        self.bad_log.note(sum(part.seen for part in parts), [fault for part in parts for fault in part.faults])

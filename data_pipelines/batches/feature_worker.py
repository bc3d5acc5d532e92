"""Fills batches that need no decoding: copies the features of all samples of a source in one operation.

Order, plan, captions, groups and substitutes are those of `DecodeWorker`, so a batch holds the same samples.
"""

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import Fault
from tercet.data_pipelines.batches.batch_maker import BatchMaker
from tercet.data_pipelines.batches.buffers import open_arrays
from tercet.data_pipelines.batches.decode_worker import (
    DecodedSource,
    DecodeResult,
    DecodeTask,
    DecodeWorker,
    all_bad,
    candidates,
)
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.decode.stored import MISSING, Ints
from tercet.data_pipelines.sample import FeatureIntake
from tercet.data_pipelines.transforms.crop import caption_shares
from tercet.data_pipelines.workers.pool import Kind


class FeatureWorker(DecodeWorker):
    """Does a `DecodeTask` whose samples are all features."""

    chunk = sys.maxsize

    def __call__(self, task: DecodeTask) -> DecodeResult:
        source, rows = self.sources[task.source], _span(task.rows)
        arrays = open_arrays(task.buffer, self.layout) if isinstance(task.buffer, str) else task.buffer.arrays
        id_n, epoch_n = np.array(task.ids, dtype=np.int64), np.array(task.epochs, dtype=np.int64)
        group_n, faults = self._stored(source, id_n, epoch_n)
        arrays["id"][rows] = source.first + id_n
        arrays["group"][rows] = np.where(group_n < 0, group_n - source.first, group_n)
        for (name, place), column in source.decode.features[0].values.items():
            if self.maker.values.get(name) == place:
                arrays[f"value {name}"][rows] = column.rows(id_n)[0]
        share_n = caption_shares(source.name, self.seed, epoch_n, id_n)
        for name in self.maker.fields:
            arrays[f"{name} rows"][rows] = 0
        for one in source.decode.features:
            vector_nD = arrays[one.name][rows, 0]  # a view if the rows are consecutive
            arrays[f"{one.name} rows"][rows], _ = one.read(id_n, share_n, vector_nD)
            if not np.may_share_memory(vector_nD, arrays[one.name]):
                arrays[one.name][rows, 0] = vector_nD
        return DecodeResult(len(id_n) + len(faults), tuple(faults))

    def pool(self, data: DataConfig) -> tuple[Kind, int]:
        """One thread: copying does not hold the interpreter, and one is faster than any model."""
        return "thread", min(data.workers, 1)

    def prefetch(self, source: int, ids: Sequence[int]) -> None:
        """Does nothing, because no file of the source is read."""

    def _stored(self, source: DecodedSource, id_n: Ints, epoch_n: Ints) -> tuple[Ints, list[Fault]]:
        """The groups of the samples. Replaces in `id_n` those that are not stored."""
        group_n, has_n = _groups(source, id_n)
        faults: list[Fault] = []
        for place in np.flatnonzero(~has_n).tolist():
            row = [source.decode.fault(int(id_n[place]), MISSING)]
            for other in candidates(source, self.seed, int(epoch_n[place]), int(id_n[place])):
                group, has = _groups(source, np.array([other]))
                if has.all():
                    id_n[place], group_n[place] = other, group[0]
                    break
                row.append(source.decode.fault(other, MISSING))
            else:
                raise all_bad(row)
            faults += row
        return group_n, faults


def reads_features_only(sources: Sequence[DecodedSource], maker: BatchMaker) -> bool:
    """Whether all that a batch holds is stored, so that no sample is decoded."""
    if not all(isinstance(field.intake, FeatureIntake) for field in maker.fields.values()):
        return False
    stored = [one.decode.features[0].values if one.decode.features else None for one in sources]
    return all(values is not None and maker.values.items() <= values.keys() for values in stored)


def _groups(source: DecodedSource, id_n: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """The group of each sample, and whether all of its features are stored."""
    first, *others = source.decode.features
    group_n, has_n = first.groups.rows(id_n)
    for one in others:
        has_n &= one.groups.rows(id_n)[1]
    return group_n, has_n


def _span(rows: Sequence[int]) -> slice | list[int]:
    """The rows as a slice if they are consecutive."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else list(rows)

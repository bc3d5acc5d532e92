"""A source of captions in memory, for tests that do not depend on files."""

from collections.abc import Collection, Sequence

import numpy as np
import torch

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.sample import TextIntake
from tercet.data_pipelines.source import Files


def numbers(captions: list[str]) -> torch.Tensor:
    return torch.tensor([[int(caption.rpartition(" ")[2] or 0)] for caption in captions])


INTAKES = {"text": TextIntake(numbers)}


class Captions:
    """Shards of these sizes. The caption of sample i is `NAME i`; the sample is bad if `i % every_bad` is 0."""

    def __init__(self, name: str, counts: Sequence[int], every_bad: int = 0) -> None:
        self.name, self.counts, self.every_bad = name, np.array(counts, dtype=np.int64), every_bad
        self.fingerprint = f"{name} {counts}"
        self.reads = 0
        self.announced: set[int] = set()

    def __len__(self) -> int:
        return int(self.counts.sum())

    @property
    def snapshot(self) -> str:
        return self.fingerprint

    def shard(self, id: int) -> str:
        return f"{self.name}/{np.searchsorted(np.cumsum(self.counts), id, side='right')}"

    def path(self, id: int, modality: str) -> str:
        return self.shard(id)

    def size(self, id: int, modality: str) -> int:
        return 0

    def key(self, id: int) -> str:
        return str(id)

    def prefetch(self, ids: Sequence[int]) -> None:
        self.announced.update(ids)

    def read(self, ids: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        self.reads += len(ids)
        return [self._files(id) for id in ids]

    def _files(self, id: int) -> Files | BadSample:
        if self.every_bad and id % self.every_bad == 0:
            return BadSample("made bad")
        return {"txt": f"{self.name} {id}".encode()}

"""The interface of all data that can be read by index: samples by id, in shards of known sizes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import BadSample

Files = Mapping[str, bytes]  # a sample's files by extension
LARGEST_FILE = 256 * 2**20  # bytes; a sample with a larger file is bad


class Source(Protocol):
    """Ids are dense and stable: the samples of the first shard, then those of the second, and so on."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many samples each shard holds."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the samples or their ids change."""
        ...

    @property
    def snapshot(self) -> str:
        """Changes also when a file is replaced under the same name."""
        ...

    def __len__(self) -> int: ...

    def shard(self, id: int) -> str: ...

    def key(self, id: int) -> str: ...

    def path(self, id: int, modality: str) -> str:
        """Where a person finds the sample: its own file of the modality, or its shard."""
        ...

    def size(self, id: int, modality: str) -> int:
        """Bytes of its file of the modality; 0 if it has none, or if the size is not known without a download."""
        ...

    def prefetch(self, ids: Sequence[int]) -> None:
        """Announces that some process will read these samples soon."""
        ...

    def read(self, ids: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        """The wanted files of each sample, in the order of `ids`, or why the sample is bad."""
        ...

"""What the order, the loaders and the tools ask of data: samples by id, in shards of known sizes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.bad_samples import BadSample

Files = Mapping[str, bytes]  # a sample's files by extension
LARGEST_FILE = 256 * 2**20  # of a sample; larger ones are not read


class Source(Protocol):
    """Ids are dense and stable: the samples of the first shard, then those of the second, and so on."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many samples each shard holds."""
        ...

    @property
    def fingerprint(self) -> str:
        """Differs where the samples or their ids do."""
        ...

    @property
    def snapshot(self) -> str:
        """Differs, too, where a file of the samples was replaced under its name."""
        ...

    def __len__(self) -> int: ...

    def shard(self, id: int) -> str: ...

    def key(self, id: int) -> str: ...

    def path(self, id: int, modality: str) -> str:
        """Where a person finds it: its own file of the modality, or the shard that holds it."""
        ...

    def size(self, id: int, modality: str) -> int:
        """Bytes of its file of the modality; 0 where there is none, or where it would have to be fetched to know."""
        ...

    def prefetch(self, ids: Sequence[int]) -> None:
        """These will be read soon, by whichever process."""
        ...

    def read(self, ids: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        """The wanted files of each sample, in the order of `ids`; what is wrong with a sample stands in its place."""
        ...

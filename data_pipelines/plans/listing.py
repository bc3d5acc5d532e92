"""What every list of samples says: which samples of a source are trained on, and how often in an epoch.

Shape letters: n samples of a block.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tercet.data_pipelines.plans.order import Ints
from tercet.plural import number_of

LARGEST_COUNT = 65_534


@dataclass(frozen=True)
class ListBlock:
    """Some samples of a list: their lines in the file, the ids or keys that they name, and the counts."""

    line_n: Ints
    named: Ints | list[str]
    count_n: Ints


class Listing(ABC):
    """A list on disk. It may be as long as the data, so it is read in blocks, each time that it is needed."""

    path: str

    @property
    @abstractmethod
    def by_key(self) -> bool:
        """Whether it names samples by their keys. Otherwise it names them by their ids."""

    @abstractmethod
    def digest(self) -> str:
        """A hash of the content."""

    @abstractmethod
    def place(self, line: int) -> str:
        """Where a person finds a line, for errors."""

    @abstractmethod
    def blocks(self) -> Iterator[ListBlock]: ...

    def witnesses(self) -> Iterator[tuple[int, int, str]]:
        """Lines with an id and a key, from which one sees whether the ids are those of other data."""
        return iter(())

    def summary(self) -> str:
        """The list in one line. Needs only the file, not the data."""
        kept, epoch = 0, 0
        for block in self.blocks():
            kept += int(np.count_nonzero(block.count_n))
            epoch += int(block.count_n.sum())
        return f"{self.path} (digest {self.digest()}): {number_of(kept, 'sample')}, {epoch:,} an epoch"

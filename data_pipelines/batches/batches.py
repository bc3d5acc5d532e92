"""What a trainer asks of whatever makes its batches."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Protocol

from tercet.data_pipelines.plans.plan import Plan
from tercet.data_pipelines.sample import Batch


class Batches(Protocol):
    """Training batches of one rank. Each says where every source stands after it: a run resumes there."""

    @property
    def plan(self) -> Plan: ...

    @property
    def bad(self) -> Counter[str]:
        """Bad samples met on this rank, by reason."""
        ...

    def epoch(self, cursors: Mapping[str, int]) -> int:
        """How many times the source that was seen most often has been gone through."""
        ...

    def __iter__(self) -> Iterator[Batch]: ...

"""What a trainer asks of whatever makes its batches."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from tercet.data_pipelines.plans.plan import Plan
from tercet.data_pipelines.sample import Batch


@dataclass(frozen=True)
class SourceIds:
    """The ids in batches of a source's samples, in the order of their ids within the source."""

    fingerprint: str
    ids: range


class Batches(Protocol):
    """Training batches of one rank. Each says where every source stands after it: a run resumes there."""

    @property
    def plan(self) -> Plan: ...

    @property
    def sources(self) -> tuple[SourceIds, ...]:
        """Whose samples the ids of a batch are; empty where ids are not stable, as those of a stream."""
        ...

    @property
    def bad(self) -> Counter[str]:
        """Bad samples met on this rank, by reason."""
        ...

    def epoch(self, cursors: Mapping[str, int]) -> int:
        """How many times the source that was seen most often has been gone through."""
        ...

    def __iter__(self) -> Iterator[Batch]: ...

"""The interface between the trainer and the loaders."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from tercet.data_pipelines.plans.plan import Plan
from tercet.data_pipelines.sample import Batch


@dataclass(frozen=True)
class SourceIds:
    """The range of ids that the samples of a source have in batches."""

    fingerprint: str
    ids: range


class Batches(Protocol):
    """Training batches of one rank. Each batch holds the cursors from which a run resumes after it."""

    @property
    def plan(self) -> Plan: ...

    @property
    def sources(self) -> tuple[SourceIds, ...]:
        """Which ids belong to which source; empty for a stream, whose ids are hashes."""
        ...

    @property
    def bad(self) -> Counter[str]:
        """How many samples of this rank were bad, by reason."""
        ...

    def epoch(self, cursors: Mapping[str, int]) -> int:
        """How many epochs are complete, of the source that has completed most."""
        ...

    def __iter__(self) -> Iterator[Batch]: ...

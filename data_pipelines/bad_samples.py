"""Counts and logs samples that cannot be used, so that none is dropped silently."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tercet.errors import UserError

ENOUGH = 100  # samples before the share of bad ones is checked


class BadSample(Exception):
    """A sample cannot be used. The reason is a short fixed phrase, so that reasons can be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Fault:
    """Which sample was bad, and why. `file`: its own file, if it has one; those in shards have none."""

    shard: str
    key: str
    id: int
    reason: str
    file: str = ""

    @property
    def name(self) -> str:
        """What a person finds the sample by."""
        return f"{self.key} ({self.file})" if self.file else self.key


def summary(faults: Sequence[Fault]) -> str:
    """Counts by reason, and the first bad sample."""
    counted = Counter(fault.reason for fault in faults).most_common()
    reasons = ", ".join(f"{count} × {reason}" for reason, count in counted)
    return f"{reasons}; the first is {faults[0].name} in {faults[0].shard}"


def most_bad(share: float, seen: int) -> float:
    """How many of `seen` samples may be bad: three standard deviations more than the share. Otherwise a long run with a
    rate just below the limit would exceed it by chance."""
    expected = share * seen
    return expected + 3 * math.sqrt(expected)


class BadSampleLog:
    """Counts samples, and bad ones by reason. Logs each bad one once. Raises if their share is too high."""

    def __init__(self, max_bad: float, path: Path | None = None) -> None:
        self.max_bad = max_bad
        self.path = path
        self.seen = 0
        self.reasons: Counter[str] = Counter()
        self._written: set[tuple[str, int]] = set()  # with the shard, because several sources may have the same id

    def note(self, seen: int, faults: Sequence[Fault]) -> None:
        self.seen += seen
        self.reasons.update(fault.reason for fault in faults)
        new = {(fault.shard, fault.id): fault for fault in faults if (fault.shard, fault.id) not in self._written}
        self._written.update(new)
        self._write(list(new.values()))
        if self.seen >= ENOUGH and self.reasons.total() > most_bad(self.max_bad, self.seen):
            raise UserError(self._message())

    def restart(self) -> None:
        """Counts from 0 again, but does not log a sample twice."""
        self.seen = 0
        self.reasons.clear()

    def _write(self, faults: Sequence[Fault]) -> None:
        if self.path and faults:
            lines = "".join(json.dumps(asdict(fault)) + "\n" for fault in faults)
            with self.path.open("ab", buffering=0) as file:  # a single write, because all ranks append to this file
                file.write(lines.encode())

    def _message(self) -> str:
        counts = ", ".join(f"{count} × {reason}" for reason, count in self.reasons.most_common())
        where = f"they are listed in {self.path}" if self.path else "fix the data"
        return (
            f"{self.reasons.total()} of {self.seen} samples are bad, more than data.max_bad = {self.max_bad:g} allows "
            f"({counts}); {where}, or raise data.max_bad"
        )

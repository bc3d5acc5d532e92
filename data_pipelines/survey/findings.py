"""What `data check` found: counts by reason and by shard that add up, with examples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tercet.data_pipelines.bad_samples import Fault
from tercet.data_pipelines.captions.text import MOST_CHARACTERS
from tercet.data_pipelines.survey.sketch import Bottom, marks
from tercet.plural import number_of

EXAMPLES = 5  # of each reason
NOTES = (CUT, AGAIN) = (  # not faults: the sample can be used
    f"text: longer than {MOST_CHARACTERS:,} characters, and cut there",
    "row: another one before it has the same file and caption",
)


@dataclass
class Findings:
    """A damaged shard has no samples, unless it is a complete tar that differs from its manifest."""

    shards: int
    damaged: Mapping[str, str]  # what is wrong with a shard as a whole
    samples_of: Mapping[str, int]  # shard
    bytes: int
    files: Mapping[str, int]
    passed_over: Mapping[str, int]  # files that are never read, by extension
    usual: Sequence[str]  # kinds of files that most samples have
    hints: Sequence[str] = ()  # about the data as a whole
    reasons: Counter[str] = field(default_factory=Counter)
    bad_of_shard: dict[str, Counter[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Bottom[Fault]] = field(default_factory=dict)  # of reasons and notes

    @property
    def samples(self) -> int:
        return sum(self.samples_of.values())

    @property
    def bad(self) -> int:
        return self.reasons.total()

    def clean(self, max_bad: float = 0.0) -> bool:
        return not self.damaged and self.bad <= max_bad * self.samples

    def verdict(self, max_bad: float = 0.0) -> list[str]:
        """In sentences."""
        samples = number_of(self.samples, "sample")
        if not self.bad and not self.damaged:
            return [
                "Nothing is wrong.",
                f"All {samples} can be used." if self.samples > 1 else f"{samples} can be used.",
            ]
        bad = f"{self.bad:,} of {samples} {_are(self.bad)} bad."
        damaged = f"{len(self.damaged):,} of {number_of(self.shards, 'shard')} {_are(len(self.damaged))} damaged."
        if not self.bad:
            return [damaged, f"{samples} could be read, without a fault."]
        allowed = f"Up to {max_bad:.4g} of the samples may be bad."
        return [bad, *([damaged] if self.damaged else []), *([allowed] if max_bad else [])]

    def remarks(self) -> list[str]:
        """Notes, with examples, and hints."""
        return [*(f"{count:,} × {note}: {self._names(note)}" for note, count in self.notes.most_common()), *self.hints]

    def add(self, fault: Fault) -> None:
        """A note or, for any other reason, a bad sample."""
        if fault.reason in NOTES:
            self.notes[fault.reason] += 1
        else:
            self.reasons[fault.reason] += 1
            self.bad_of_shard.setdefault(fault.shard, Counter())[fault.reason] += 1
        self.examples.setdefault(fault.reason, Bottom(EXAMPLES)).offer(int(marks([fault.id])[0]), fault.id, fault)

    def _names(self, note: str) -> str:
        names = [fault.name for fault in self.examples[note]]
        return ", ".join(names if len(names) == self.notes[note] else [*names, "…"])

    def bad_in(self, shard: str) -> Counter[str]:
        """Reasons."""
        return self.bad_of_shard.get(shard, Counter())

    @property
    def worst(self) -> list[str]:
        """Shards with faults, the damaged ones first."""
        shares = {shard: reasons.total() / self.samples_of[shard] for shard, reasons in self.bad_of_shard.items()}
        shares |= dict.fromkeys(self.damaged, 2.0)
        return sorted(shares, key=lambda shard: (-shares[shard], shard))

    def to_json(self) -> dict[str, Any]:
        return {
            "shards": self.shards,
            "damaged_shards": self.damaged,
            "samples": self.samples,
            "good": self.samples - self.bad,
            "bad": self.bad,
            "reasons": dict(self.reasons.most_common()),
            "notes": dict(self.notes.most_common()),
            "hints": list(self.hints),
            "by_shard": {shard: self._of(shard) for shard in self.worst},
            "examples": {
                reason: [asdict(fault) for fault in self.examples[reason]] for reason in (*self.reasons, *self.notes)
            },
            "bytes": self.bytes,
            "files": dict(self.files),
            "passed_over": dict(self.passed_over),
            "usual": list(self.usual),
        }

    def _of(self, shard: str) -> dict[str, Any]:
        reasons = self.bad_in(shard)
        samples, bad = self.samples_of.get(shard, 0), reasons.total()
        return {"samples": samples, "bad": bad, "reasons": dict(reasons.most_common())}


def _are(number: int) -> str:
    return "is" if number == 1 else "are"

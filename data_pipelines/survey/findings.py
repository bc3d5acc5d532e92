"""What a look through all shards has found: counts that add up, by reason and by shard, with examples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tercet.data_pipelines.bad_samples import Fault
from tercet.data_pipelines.survey.sketch import Bottom, marks

EXAMPLES = 5  # of each reason


@dataclass
class Findings:
    """A damaged shard has no samples, unless it is a whole tar that differs from its manifest."""

    shards: int
    damaged: Mapping[str, str]  # what is wrong with a shard as a whole
    samples_of: Mapping[str, int]  # shard
    bytes: int
    files: Mapping[str, int]
    passed_over: Mapping[str, int]  # files that are never read, by extension
    usual: Sequence[str]  # what most samples have
    reasons: Counter[str] = field(default_factory=Counter)
    bad_of_shard: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, Bottom[Fault]] = field(default_factory=dict)

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
        if not self.bad and not self.damaged:
            return ["Nothing is wrong.", f"All {self.samples:,} samples can be used."]
        bad = f"{self.bad:,} of {self.samples:,} samples {_are(self.bad)} bad."
        damaged = f"{len(self.damaged):,} of {self.shards:,} shards {_are(len(self.damaged))} damaged."
        if not self.bad:
            return [damaged, f"The {self.samples:,} samples that could be read are good."]
        allowed = f"Up to {max_bad:.4g} of the samples may be bad."
        return [bad, *([damaged] if self.damaged else []), *([allowed] if max_bad else [])]

    def note(self, fault: Fault) -> None:
        self.reasons[fault.reason] += 1
        self.bad_of_shard.setdefault(fault.shard, Counter())[fault.reason] += 1
        self.examples.setdefault(fault.reason, Bottom(EXAMPLES)).offer(int(marks([fault.id])[0]), fault.id, fault)

    def bad_in(self, shard: str) -> Counter[str]:
        """Reasons."""
        return self.bad_of_shard.get(shard, Counter())

    @property
    def worst(self) -> list[str]:
        """Shards in which something is wrong, the damaged ones first."""
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
            "by_shard": {shard: self._of(shard) for shard in self.worst},
            "examples": {reason: [asdict(fault) for fault in self.examples[reason]] for reason in self.reasons},
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

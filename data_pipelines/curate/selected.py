"""What a selection counts: how many samples each rule drops, alone and together with the others."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tercet.data_pipelines.curate.rules.stages import SelectionStage
from tercet.whole_file import write_json

COUNTS = "stages.json"  # beside the decision


@dataclass(frozen=True)
class RuleCount:
    """Samples that a rule drops: `alone`, as the `only` rule of its stage, as the `first` one in the rules' order."""

    rule: str
    alone: int
    only: int
    first: int


@dataclass(frozen=True)
class StageCount:
    name: str
    entered: int
    kept: int
    rules: tuple[RuleCount, ...]

    @classmethod
    def of(cls, stage: SelectionStage, entered: int, dropped: Mapping[int, int]) -> "StageCount":
        """`dropped`: the number of samples for each set of rules that drop them, a bit for each rule."""
        counts = []
        for at, rule in enumerate(stage.rules):
            bit, before = 1 << at, (1 << at) - 1
            alone = sum(count for bits, count in dropped.items() if bits & bit)
            first = sum(count for bits, count in dropped.items() if bits & bit and not bits & before)
            counts.append(RuleCount(rule.label, alone, dropped.get(bit, 0), first))
        return cls(stage.name, entered, dropped.get(0, 0), tuple(counts))


@dataclass(frozen=True)
class Selected:
    """`epoch`: the samples of an epoch, which are more than `kept` if some come several times."""

    decision: Path
    samples: int
    kept: int
    epoch: int
    stages: tuple[StageCount, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "decision": str(self.decision)}

    def __str__(self) -> str:
        again = f", {self.epoch:,} an epoch" if self.epoch != self.kept else ""
        share = f"{100 * self.kept / self.samples:.3g} %"
        lines = [f"{self.decision}: keeps {self.kept:,} of {self.samples:,} samples ({share}){again}"]
        for stage in self.stages:
            width = max(len(one.rule) for one in stage.rules)
            lines += ["", f"{stage.name}: {stage.entered:,} samples enter, {stage.kept:,} stay"]
            lines += [f"  {'rule drops':{width}}  {'alone':>12}  {'only it':>12}  {'in turn':>12}"]
            lines += [f"  {one.rule:{width}}  {one.alone:12,}  {one.only:12,}  {one.first:12,}" for one in stage.rules]
        return "\n".join(lines)

    def save(self) -> None:
        write_json(self.decision / COUNTS, self.to_json())

    @classmethod
    def read(cls, decision: Path) -> "Selected | None":
        """What a complete selection counted."""
        try:
            found = json.loads((decision / COUNTS).read_bytes())
        except FileNotFoundError:
            return None
        stages = [
            StageCount(**{**stage, "rules": tuple(RuleCount(**rule) for rule in stage["rules"])})
            for stage in found["stages"]
        ]
        return cls(decision, found["samples"], found["kept"], found["epoch"], tuple(stages))

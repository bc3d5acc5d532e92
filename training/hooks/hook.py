"""The protocol of loggers, and the record that they get after each step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class RunInfo:
    """A run before its first step. `step` is the last step already taken: 0, unless the run resumes."""

    name: str
    folder: Path
    steps: int
    step: int = 0
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class StepRecord:
    """One step over all ranks. Losses, scales (inverse temperatures) and biases are named by term: `image-text`.
    `analysis` has the measures of the embedding space, if they are due: `image-text/alignment`. `selection` has the
    measures of the selection: `bad_chosen`.

    `samples` counts the samples that the run has trained on. `drawn` also counts those that a selection dropped.
    """

    step: int
    steps: int
    samples: int
    loss: float
    losses: Mapping[str, float]
    scales: Mapping[str, float]
    lr: float
    samples_per_s: float
    seconds_left: float
    biases: Mapping[str, float] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)  # samples drawn from each source so far
    grad_norm: float | None = None
    skipped: int = 0
    epoch: int = 0
    stage: str = ""
    drawn: int = 0
    drawn_per_s: float = 0.0
    analysis: Mapping[str, float] = field(default_factory=dict)
    selection: Mapping[str, float] = field(default_factory=dict)

    def flat(self) -> dict[str, float]:
        """The numbers under flat names such as `loss/image-text`, the same for every logger."""
        one = {"loss": self.loss, "lr": self.lr, "samples_per_s": self.samples_per_s}
        one |= {} if self.grad_norm is None else {"grad_norm": self.grad_norm}
        many = {"loss": self.losses, "scale": self.scales, "bias": self.biases}
        selects = self.drawn > self.samples
        one |= {"drawn": self.drawn} if selects else {}
        many |= {"drawn" if selects else "samples": self.sources} if len(self.sources) > 1 else {}
        many |= {"analysis": self.analysis, "selection": self.selection}
        by_term = {f"{kind}/{name}": value for kind, values in many.items() for name, value in values.items()}
        return one | by_term | {"skipped": self.skipped, "samples": self.samples, "epoch": self.epoch}


class Hook(Protocol):
    """A logger. The run calls it at the start, after each step, and at the end, also after an error."""

    def start(self, run: RunInfo) -> None: ...

    def step(self, record: StepRecord) -> None: ...

    def stop(self) -> None: ...

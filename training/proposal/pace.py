"""How long the proposed run will take, from one measured step, and the choices that follow from it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tercet.training.config import RunConfig
from tercet.training.proposal.choice import Choice
from tercet.training.proposal.machine import Machine
from tercet.training.proposal.measure import Measured, measure

HALF_HOUR = 1800  # seconds of work that a crash may cost
SHARES = 10  # a crash of a short run costs at most one of so many parts
LINES = 200  # of the log
HELD = 32  # rows of large towers that a CPU holds in memory at once


@dataclass(frozen=True)
class Duration:
    """`step` and `total` are seconds without evaluation. `waits`: loading is slower than training."""

    measured: Measured
    share: int
    steps: int
    workers: int
    step: float
    waits: bool

    @property
    def total(self) -> float:
        return self.steps * self.step

    def __str__(self) -> str:
        scaled = "" if self.measured.rows == self.share else f"; scaled to the {self.share:,} pairs of a step"
        return f"{duration(self.total)} for {self.steps:,} steps, without evaluation. Measured: {self.measured}{scaled}"

    def to_json(self) -> dict[str, Any]:
        named = {"seconds_per_step": self.step, "steps": self.steps, "seconds": self.total, "waits": self.waits}
        return {**named, "step": asdict(self.measured)}


def pace_of(config: RunConfig, machine: Machine) -> Duration:
    ranks = max(len(machine.gpus), 1)
    share = config.batch_size // ranks
    small = all(tower.encoder.startswith("small:") for tower in config.model.towers.values())
    measured = measure(config, share, in_memory=None if small else HELD)
    own = max(machine.cores // ranks - 1, 1)  # cores of a rank besides that of its training loop
    computing, loading = measured.step(share), measured.loading * share
    workers = min(own, math.ceil(loading / computing)) if machine.gpus else own
    # A GPU computes while the cores load; without one the cores do both.
    step = max(computing, loading / workers) if machine.gpus else computing + loading / machine.cores
    return Duration(measured, share, config.steps, workers, step, waits=loading / workers > computing)


def running(pace: Duration) -> Iterator[Choice]:
    """The choices that follow from the time of a step."""
    step = pace.measured
    waiting = "; even so, training waits for them" if pace.waits else ""
    why = f"a core loads a sample in {step.loading * 1000:.2g} ms{waiting}"
    yield Choice("data.workers", pace.workers, why)
    if step.micro_batch:
        held = "fit into the GPU's memory" if step.device == "cuda" else "of large towers are kept in memory"
        yield Choice(
            "micro_batch", step.micro_batch, f"pairs that {held} at once; the gradient is that of the whole batch"
        )
    lost = min(HALF_HOUR, pace.total / SHARES)
    yield Choice("checkpoint.every", math.ceil(lost / pace.step), f"a crash costs at most about {duration(lost)}")
    lines = max(1, pace.steps // LINES)
    yield Choice("log.every", lines, f"about {min(LINES, pace.steps)} lines in total")


def duration(seconds: float) -> str:
    """In words, such as `2.5 hours`."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}" if seconds < 100 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} seconds"

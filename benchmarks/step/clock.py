"""Measures the time of a step on several sides, which take turns in one process."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

Side = Callable[[int], None]  # takes the given number of steps


@dataclass(frozen=True)
class StepTimes:
    """Seconds per step in each round: wall time, and processor time over all threads."""

    wall: list[float]
    cpu: list[float]

    def of(self, clock: str) -> list[float]:
        return self.wall if clock == "wall" else self.cpu


def take_turns(sides: Mapping[str, Side], rounds: int, steps: int) -> dict[str, StepTimes]:
    """Measures all sides. A first round, which does not count, warms up. Each round starts with another side."""
    times = {name: StepTimes([], []) for name in sides}
    names = list(sides)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            settle()
            wall, cpu = time.perf_counter(), time.process_time()
            sides[name](steps)
            settle()
            if turn:
                times[name].wall.append((time.perf_counter() - wall) / steps)
                times[name].cpu.append((time.process_time() - cpu) / steps)
    return times


def settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratios(one: list[float], other: list[float]) -> list[float]:
    """The ratio in each round, rounded."""
    return [round(a / b, 4) for a, b in zip(one, other, strict=True)]


def middle(values: list[float]) -> float:
    return float(f"{median(values):.4g}")

"""How long a step takes on each side, the sides taking turns in one process."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

Side = Callable[[int], None]  # takes so many steps


@dataclass(frozen=True)
class StepTimes:
    """Seconds a step, by round: by the clock on the wall, and by that of the processor, over all threads."""

    wall: list[float]
    cpu: list[float]

    def of(self, clock: str) -> list[float]:
        return self.wall if clock == "wall" else self.cpu


def take_turns(sides: Mapping[str, Side], rounds: int, steps: int) -> dict[str, StepTimes]:
    """A first round warms up. Each later one begins with another side."""
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
    """Round by round, rounded for a reader."""
    return [round(a / b, 4) for a, b in zip(one, other, strict=True)]


def middle(values: list[float]) -> float:
    return float(f"{median(values):.4g}")

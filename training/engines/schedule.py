"""The learning rate as a function of the step."""

import math

from tercet.training.engines.config import ScheduleConfig


def learning_rate(config: ScheduleConfig, peak: float, step: int, steps: int) -> float:
    """The rate of step `step` (from 0) of `steps`: linear warm-up, then cosine, or constant and a linear cool-down."""
    warmup = int(config.warmup if config.warmup >= 1 else config.warmup * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (config.floor + (1 - config.floor) * share_of_peak(config, step - warmup, steps - warmup))


def share_of_peak(config: ScheduleConfig, step: int, steps: int) -> float:
    """The share of the peak rate at `step` of the `steps` after the warm-up, for a floor of 0."""
    if config.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
    return min(1.0, (steps - step) / (config.cooldown + 1))

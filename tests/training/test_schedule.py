"""Learning rates against the curves drawn by hand."""

import math

import pytest

from tercet.training.engines.config import ScheduleConfig
from tercet.training.engines.schedule import learning_rate


def curve(config: ScheduleConfig, steps: int) -> list[float]:
    return [learning_rate(config, 2.0, step, steps) for step in range(steps)]


def test_warm_up_rises_linearly_to_the_peak() -> None:
    assert curve(ScheduleConfig(warmup=4), 10)[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_cosine_decays_over_the_steps_after_warm_up() -> None:
    rates = curve(ScheduleConfig(warmup=2, floor=0.1), 12)
    expected = [2.0 * (0.1 + 0.9 * (1 + math.cos(math.pi * k / 10)) / 2) for k in range(10)]
    assert rates[2:] == pytest.approx(expected)


def test_constant_stays_at_the_peak_and_cools_down_linearly() -> None:
    assert curve(ScheduleConfig(name="constant", cooldown=3), 7) == pytest.approx([2, 2, 2, 2, 1.5, 1.0, 0.5])


def test_the_learning_rate_is_above_zero_and_at_most_the_peak() -> None:
    for config in (ScheduleConfig(warmup=20), ScheduleConfig(name="constant", warmup=3, cooldown=50, floor=0.2)):
        assert all(0 < rate <= 2.0 for rate in curve(config, 15))

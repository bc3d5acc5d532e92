"""Detects overfitting from a run's training losses and held-out evaluations.

The rule is conservative: it reports only what noise does not explain. A run overfits in one of two cases.

- It is past its peak: the interval of the last evaluation lies wholly below that of the best one, and the training
  loss is lower than at the best one.
- It memorises: the training loss is below a tenth of that at the start, and the last evaluation is not above chance.

Each loss is a mean over a twentieth of all steps: the first steps, or those up to an evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

WINDOWS = 20  # a loss is averaged over all steps divided by this number
NEAR_ZERO = 0.1  # of the loss at the start

Losses = Sequence[tuple[int, float]]  # step and training loss, in order


@dataclass(frozen=True)
class HeldOutScore:
    """One evaluation: a metric that is better if it is higher, its 95 % interval, and whether it is above chance."""

    step: int
    value: float
    low: float
    high: float
    above_chance: bool


def overfitting(losses: Losses, scores: Sequence[HeldOutScore], metric: str) -> str | None:
    """A sentence that says how the run overfits, or None if it does not. `scores` are in the order of their steps."""
    if not (losses and scores):
        return None
    best, last = max(scores, key=lambda one: one.value), scores[-1]
    start, end = _mean(losses[: _window(losses)]), loss_at(losses, last.step)
    if last.step > best.step and last.high < best.low and end < (then := loss_at(losses, best.step)):
        peak = f"held-out {metric} was best at step {best.step:,} ({100 * best.value:.1f} %)"
        fell = f"{100 * last.value:.1f} % at step {last.step:,}"
        return f"{peak} and fell to {fell}, while the training loss fell from {then:.3g} to {end:.3g}"
    if end < NEAR_ZERO * start and not last.above_chance:
        fell = f"the training loss fell from {start:.3g} to {end:.3g}"
        return (
            f"{fell}, but held-out {metric} is not above chance: the model has memorised its training samples; "
            "start from pretrained weights (init), or add data"
        )
    return None


def loss_at(losses: Losses, step: int) -> float:
    """The mean training loss of the last steps up to `step`, or of the first steps if there are none."""
    before = [pair for pair in losses if pair[0] <= step]
    return _mean(before[-_window(losses) :] or losses[: _window(losses)])


def _window(losses: Losses) -> int:
    return -(-len(losses) // WINDOWS)


def _mean(losses: Losses) -> float:
    return sum(loss for _, loss in losses) / len(losses)

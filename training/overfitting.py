"""Whether a run overfits, decided by its training losses and held-out evaluations alone.

The rule is conservative: it reports what noise does not explain. A run overfits in one of two cases.

- Peak: the last evaluation's interval lies wholly below that of the best one, and the training loss is lower than then.
- Memory: the training loss is below a tenth of what it was at the start, and the last evaluation is not above chance.

A loss is the mean over a twentieth of all steps: the first ones, or those up to an evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

STRETCH = 20  # a loss is averaged over this part of all steps
NEAR_ZERO = 0.1  # of the loss at the start

Losses = Sequence[tuple[int, float]]  # step and training loss, in order


@dataclass(frozen=True)
class HeldOutScore:
    """One evaluation: a metric of which more is better, its 95 % interval, and whether it is above chance."""

    step: int
    value: float
    low: float
    high: float
    above_chance: bool


def overfitting(losses: Losses, scores: Sequence[HeldOutScore], metric: str) -> str | None:
    """How the run overfits, in one sentence; nothing where it does not. `scores` are in the order of their steps."""
    if not (losses and scores):
        return None
    best, last = max(scores, key=lambda one: one.value), scores[-1]
    start, end = _mean(losses[: _stretch(losses)]), loss_at(losses, last.step)
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
    """The training loss around a step: that of the steps up to it, or of the first steps."""
    before = [pair for pair in losses if pair[0] <= step]
    return _mean(before[-_stretch(losses) :] or losses[: _stretch(losses)])


def _stretch(losses: Losses) -> int:
    return -(-len(losses) // STRETCH)


def _mean(losses: Losses) -> float:
    return sum(loss for _, loss in losses) / len(losses)

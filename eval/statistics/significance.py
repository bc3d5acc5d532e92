"""p-values of differences, and Holm's correction for many of them.

The p-value of a difference follows from its interval: it is the level at which an interval of the same shape, with the
same centre, would just reach zero. So a difference has p < 0.05 exactly if its 95 % interval excludes zero. For shares
and mean ranks that is the test of Student's t that the interval inverts; for medians it is an approximation. It is the
whole interval that counts: tables show the part of it that is possible, such as differences up to 1.

Holm's correction (1979) keeps the probability of even one wrong verdict among all rows below 5 %, however the rows
depend on each other.
"""

from collections.abc import Sequence
from math import erfc, isfinite, sqrt

from tercet.eval.statistics.intervals import Estimate, student

LEVEL = 0.05
HIGHEST = 38.0  # normal deviates; erfc is zero beyond


def p_value(apart: Estimate, degrees: int) -> float:
    """The two-sided p-value of a difference. `degrees`: the degrees of freedom of its interval."""
    centre, margin = abs(apart.high + apart.low) / 2, (apart.high - apart.low) / 2
    if degrees < 1 or not isfinite(margin) or centre == 0:
        return 1.0
    if margin == 0:
        return 0.0
    return erfc(_normal(centre / margin * student(degrees), degrees) / sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """The corrected p-values, in the order of the given ones."""
    corrected, least = [1.0] * len(p_values), 0.0
    for place, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min((len(p_values) - place) * p_values[at], 1.0))
        corrected[at] = least
    return corrected


def _normal(t: float, degrees: int) -> float:
    """The normal deviate whose tail is that of Student's t, by bisection."""
    low, high = 0.0, HIGHEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student(degrees, middle) < t else (low, middle)
    return (low + high) / 2

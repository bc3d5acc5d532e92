"""Warns when a metric collapses while a run trains.

A metric has collapsed if the whole interval of an evaluation is worse than the whole interval of the best evaluation
before it, and that one was above chance by more than the width of its interval. So noise does not warn, nor do first
evaluations, which are near chance. A metric is reported when it collapses, and not again until it has recovered.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tercet.eval.result import Json, Result
from tercet.eval.statistics.scale import scale_of
from tercet.eval.tables.formatting import with_unit

History = Sequence[tuple[int, Sequence[Result]]]  # the results of each evaluation with its step, in order


@dataclass(frozen=True)
class Collapse:
    """A metric that fell: its best evaluation, and the one where it fell."""

    step: int
    best_step: int
    best: Result
    now: Result

    @property
    def to_chance(self) -> bool:
        return self.now.above_chance is False

    @property
    def words(self) -> str:
        best, now = (with_unit(one.value, one.metric) for one in (self.best, self.now))
        guess = self.now.guess
        end = (
            f", no better than {guess[0]} ({with_unit(guess[1], self.now.metric)})" if self.to_chance and guess else ""
        )
        where = f"{self.now.name} of {self.now.task} on {self.now.dataset}"
        return f"{where} fell from {best} at step {self.best_step:,} to {now}{end}"

    def to_json(self) -> Json:
        about: Json = {"dataset": self.now.dataset, "task": self.now.task, "metric": self.now.name}
        values: Json = {"value": self.now.value, "best": self.best.value, "best_step": self.best_step}
        return about | values | {"to_chance": self.to_chance}


def collapses(history: History) -> list[Collapse]:
    """The metrics that collapse at the last evaluation, and had not collapsed at the one before."""
    if not history:
        return []
    series: dict[tuple[str, str, str], list[tuple[int, Result]]] = {}
    for at, some in history:
        for one in some:
            series.setdefault(_key(one), []).append((at, one))
    step, results = history[-1]
    found = []
    for now in results:
        best = _fallen_from(series[_key(now)])
        if best is not None and _fallen_from(series[_key(now)][:-1]) is None:
            found.append(Collapse(step, *best, now))
    return found


def in_words(found: Sequence[Collapse]) -> str:
    """The collapses of one evaluation in a sentence; those to chance come first."""
    first = sorted(found, key=lambda one: not one.to_chance)[0]
    more = f" ({len(found) - 1} more metrics fell)" if len(found) > 1 else ""
    return f"{first.words}{more}"


def _fallen_from(series: Sequence[tuple[int, Result]]) -> tuple[int, Result] | None:
    """The best evaluation before the last, if the last one is worse by more than both intervals."""
    known = [(step, one) for step, one in series[:-1] if _is_clear(one)]
    if not known:
        return None
    _, now = series[-1]
    lower = scale_of(now.metric).better == "lower"
    step, best = min(known, key=lambda one: one[1].value if lower else -one[1].value)  # the first of equals
    if now.low is None or now.high is None or best.low is None or best.high is None:
        return None
    return (step, best) if (now.low > best.high if lower else now.high < best.low) else None


def _is_clear(result: Result) -> bool:
    """Whether the result is better than guessing by more than the width of its interval."""
    better = scale_of(result.metric).better
    if better is None or result.guess is None or result.low is None or result.high is None:
        return False
    _, guess = result.guess
    margin = guess - result.high if better == "lower" else result.low - guess
    return margin > result.high - result.low


def _key(result: Result) -> tuple[str, str, str]:
    return result.dataset, result.task, result.name

"""Tests evaluation itself: null models, whose scores are known, go through the code that evaluates a model.

- A constant model gives every item the same vector. All ties, and a tie is wrong, so that it is not better than chance.
- A random model scores chance, on average over many draws; or no more, where a task learns from vectors.
- The model's own vectors, shuffled among the items, score no more than one answer for all items can.
- The model's own vectors score the same in any order of the items and of the classes.
- A model that knows the class of every item is right, where a task learns classes from vectors.

Measures say more exactly what null models score (`null_scores.py`). Where a check fails, no other number of the
evaluation can be trusted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from math import isnan, nan, sqrt
from statistics import fmean, stdev
from typing import Literal

from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.evaluate import measure
from tercet.eval.load_tasks import load_tasks
from tercet.eval.measure import Measure
from tercet.eval.result import Json
from tercet.eval.statistics.scale import scale_of
from tercet.eval.tables.formatting import with_unit
from tercet.eval.task import Task
from tercet.eval.trust.null_models import (
    Draw,
    constant,
    constant_text,
    drawn,
    own,
    random_text,
    random_vectors,
    reordered,
    shuffled,
    subset,
    width,
)

EXACT = 1e-5  # up to rounding

Key = tuple[str, str, str]  # task, subject, metric
Bound = Literal["equal", "at most", "at least"]
Law = tuple[float, Bound]  # a score, and whether a null model has it or one that is not better
LawOf = Callable[[Measure, str], Law | None]  # of a metric


@dataclass(frozen=True)
class Effort:
    """How thorough a self-test is."""

    items: int  # the rules hold for any number of items, and more take longer
    queries: int  # over all draws: the mean over fewer can be far from chance
    draws: tuple[int, int]  # at least, at most
    errors: float  # standard errors that the mean of the draws may be off


THOROUGH = Effort(400, 10_000, (16, 400), 5.0)
QUICK = Effort(64, 512, (8, 8), 8.0)


@dataclass(frozen=True)
class Check:
    """One metric of one null model: its score, and the score that it must have, up to a tolerance."""

    model: str
    task: str
    subject: str
    metric: str
    scored: float
    expected: float
    tolerance: float = EXACT
    bound: Bound = "equal"

    @property
    def holds(self) -> bool:
        above = self.scored - self.expected
        excess = {"equal": abs(above), "at most": above, "at least": -above}[self.bound]
        return excess <= self.tolerance

    def to_json(self) -> Json:
        return {**asdict(self), "holds": self.holds}


def trust(table: EmbeddingTable, task: Task, confirm: Effort = THOROUGH) -> None:
    """Fails if the evaluation of a task on these data cannot be trusted: a quick self-test finds a wrong score, and a
    thorough one finds it again."""
    if all(check.holds for check in _checks(table, task, QUICK)):
        return
    for wrong in (check for check in _checks(table, task, confirm) if not check.holds):
        bound = "" if wrong.bound == "equal" else f"{wrong.bound} "
        raise UserError(
            f"the evaluation of task `{wrong.task}` cannot be trusted: the {wrong.model} model scores "
            f"{with_unit(wrong.scored, wrong.metric)} in {wrong.subject} {wrong.metric}, and it must score "
            f"{bound}{with_unit(wrong.expected, wrong.metric)}; `tercet eval … --self-test` shows all checks"
        )


def self_test(table: EmbeddingTable, tasks: Sequence[str | Task], effort: Effort = THOROUGH) -> list[Check]:
    """Checks every metric of these tasks with each null model."""
    found = list(chain.from_iterable(_checks(table, task, effort) for task in load_tasks(tasks)))
    if not found:
        raise EvalError("the tasks measure nothing on these data; name others, such as `retrieval`")
    return found


def _checks(table: EmbeddingTable, task: Task, effort: Effort) -> list[Check]:
    """On as few items as have all that the task needs."""
    lighter, items, most = task.lighter(), effort.items, len(table.samples)
    while items < most:
        try:
            return _on_few(subset(table, items), lighter, effort)
        except EvalError:
            items *= 2
    with suppress(EvalError):
        return _on_few(subset(table, most), lighter, effort)
    return _on_few(subset(table, most), task, effort)


def _on_few(few: EmbeddingTable, task: Task, effort: Effort) -> list[Check]:
    equal = _measures(drawn(constant, few), constant_text, task)
    return [
        *_exactly("constant", equal, _of_constant),
        *_on_average("random", few, random_vectors, task, _laws(equal, _of_random), effort),
        *_on_average("shuffled", few, shuffled, task, _laws(equal, _of_shuffled), effort),
        *_reordered(few, task),
        *_informed(few, task),
    ]


def _exactly(model: str, measures: Sequence[Measure], law_of: LawOf) -> list[Check]:
    """Compares the scores of a model that is not drawn at random."""
    scored, laws = _numbers(measures), _laws(measures, law_of)
    return [Check(model, *key, scored[key], law[0], bound=law[1]) for key, (law, _) in laws.items() if key in scored]


def _laws(measures: Iterable[Measure], law_of: LawOf) -> dict[Key, tuple[Law, int]]:
    """The law of each metric that has one, whatever the vectors, and the number of queries."""
    return {
        (one.task, one.subject, metric): (law, len(one.items))
        for one in measures
        for metric in one.statistics
        if (law := law_of(one, metric))
    }


def _on_average(
    model: str,
    table: EmbeddingTable,
    draw: Draw,
    task: Task,
    laws: Mapping[Key, tuple[Law, int]],
    effort: Effort,
) -> list[Check]:
    """Compares the mean of many draws with what it must be."""

    def one_draw(seed: int) -> list[Measure]:
        vectors = drawn(draw, table, seed)
        return _measures(vectors, random_text(width(vectors), seed), task)

    least, most = effort.draws
    count = min(max(effort.queries // len(table.samples), least), most) if laws else 0
    numbers = [_numbers(one_draw(seed)) for seed in range(count)]
    checks = []
    for key, ((expected, bound), queries) in laws.items():
        scored = [number[key] for number in numbers if key in number]
        if len(scored) > 1:
            tolerance = EXACT + effort.errors * _error(scored, expected, queries)
            checks.append(Check(model, *key, fmean(scored), expected, tolerance, bound))
    return checks


def _reordered(table: EmbeddingTable, task: Task) -> list[Check]:
    """Compares the model's own numbers with those for another order of the items and of the classes."""
    texts = random_text(width(table), seed=0)
    straight = _numbers(_measures(drawn(own, table), texts, task))
    turned = _numbers(_measures(drawn(reordered, table), texts, task.reordered()))
    keys = dict.fromkeys((*straight, *turned))
    return [Check("reordered", *key, turned.get(key, nan), straight.get(key, nan)) for key in keys]


def _informed(table: EmbeddingTable, task: Task) -> list[Check]:
    """Of vectors that say the answers."""
    vectors = task.informed(table)
    if vectors is None:
        return []
    measures = _measures(drawn(own, vectors), random_text(width(vectors), seed=0), task)
    return _exactly("informed", measures, _of_informed)


def _of_constant(one: Measure, metric: str) -> Law | None:
    exact = one.nulls.constant.get(metric)
    return _not_better(metric, one.chance.get(metric)) if exact is None else (exact, "equal")


def _of_random(one: Measure, metric: str) -> Law | None:
    if metric not in one.nulls.random:
        return _not_better(metric, one.nulls.shuffled.get(metric, one.chance.get(metric)))
    exact = one.nulls.random[metric]
    return None if exact is None else (exact, "equal")


def _of_shuffled(one: Measure, metric: str) -> Law | None:
    return _not_better(metric, one.nulls.shuffled.get(metric))


def _of_informed(one: Measure, metric: str) -> Law | None:
    return (one.nulls.informed[metric], "equal") if metric in one.nulls.informed else None


def _not_better(metric: str, score: float | None) -> Law | None:
    """None without a score, or where neither of two values is better."""
    better = scale_of(metric).better
    return None if score is None or better is None else (score, "at least" if better == "lower" else "at most")


def _measures(table: EmbeddingTable, embed_text: TextEmbedder, task: Task) -> list[Measure]:
    return measure(table, embed_text, [task], EvalConfig())


def _numbers(measures: Iterable[Measure]) -> dict[Key, float]:
    """All scores. Few items may lack what a metric needs, which is then not a number."""
    found = {
        (one.task, one.subject, metric): statistic.value
        for one in measures
        for metric, statistic in one.statistics.items()
    }
    return {key: value for key, value in found.items() if not isnan(value)}


def _error(scored: Sequence[float], chance: float, queries: int) -> float:
    """The standard error of the mean of the draws. Draws may agree by luck: a share has a deviation of its own."""
    own = sqrt(chance * (1 - chance) / queries) if 0 < chance < 1 else 0.0
    return max(stdev(scored), own) / sqrt(len(scored))

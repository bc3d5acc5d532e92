"""Tests evaluation itself: null models, whose scores are known, go through the code that evaluates a model.

- A constant model gives every item the same vector. All ties, and a tie is wrong: its score is the worst possible.
- A random model scores chance, on average over many draws.
- The model's own vectors, shuffled among the items, score chance at most; less, where some of them are alike.
- The model's own vectors score the same in any order of the items and of the classes.

Where one of these fails, no other number of the evaluation can be trusted.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tercet.errors import UserError
from tercet.eval.composition import CompositionTask
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.evaluate import measure
from tercet.eval.few_shot import FewShotTask
from tercet.eval.formatting import heading, shown, with_unit
from tercet.eval.load_tasks import load_tasks
from tercet.eval.measure import Measure
from tercet.eval.multi_object import MultiObjectTask
from tercet.eval.null_models import (
    DIM,
    constant,
    constant_text,
    opposed,
    random_text,
    random_vectors,
    reordered,
    shuffled,
    subset,
)
from tercet.eval.result import Json
from tercet.eval.retrieval import RetrievalTask
from tercet.eval.scale import scale_of
from tercet.eval.similarity import SimilarityTask
from tercet.eval.task import Task
from tercet.eval.zero_shot import ZeroShotTask

EXACT = 1e-9
KNOWN = (RetrievalTask, ZeroShotTask, CompositionTask, MultiObjectTask, FewShotTask, SimilarityTask)
UNJUDGED = ("median rank", "mean rank variance")  # their expectations over draws are not those of chance
PROPER = ("Brier score", "log loss")  # of probabilities: lower is better

Key = tuple[str, str, str]  # task, subject, metric
Bound = Literal["equal", "at most", "at least"]


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
    if not isinstance(task, KNOWN) or all(check.holds for check in self_test(table, [task], QUICK)):
        return
    for wrong in (check for check in self_test(table, [task], confirm) if not check.holds):
        raise UserError(
            f"the evaluation of task `{wrong.task}` cannot be trusted: the {wrong.model} model scores "
            f"{with_unit(wrong.scored, wrong.metric)} in {wrong.subject} {wrong.metric}, and it must score "
            f"{with_unit(wrong.expected, wrong.metric)}; `tercet eval … --self-test` shows all checks"
        )


def self_test(table: EmbeddingTable, tasks: Sequence[str | Task], effort: Effort = THOROUGH) -> list[Check]:
    """Checks every metric of these tasks with each null model. Scores in a plugin's tasks are not known."""
    known = [_of_few(task) for task in load_tasks(tasks) if isinstance(task, KNOWN)]
    if not known:
        raise EvalError("the self-test knows the scores of none of these tasks; name another, such as `retrieval`")
    try:
        return _checks(subset(table, effort.items), known, effort)
    except EvalError:  # the few items may lack what a task needs
        return _checks(subset(table, len(table.samples)), known, effort)


def _of_few(task: Task) -> Task:
    """The same task with kinds of mistakes that are rare among few items."""
    return task.model_copy(update={"least": 1}) if isinstance(task, CompositionTask) else task


def _checks(few: EmbeddingTable, known: Sequence[Task], effort: Effort) -> list[Check]:
    retrieval = [task for task in known if isinstance(task, RetrievalTask)]
    return [
        *_constant(few, known, retrieval),
        *_by_chance("random", few, random_vectors, known, _no_luckier, effort),
        *_by_chance("shuffled", few, shuffled, retrieval, _no_better, effort),
        *_reordered(few, known),
    ]


def _constant(table: EmbeddingTable, tasks: Sequence[Task], retrieval: Sequence[Task]) -> list[Check]:
    """The worst in retrieval is the score of a model that ranks every right answer last; in other tasks it is zero, or
    what their measures say."""
    worst = _numbers(_measures(opposed(table), constant_text, retrieval))
    measures = _measures(constant(table), constant_text, tasks)
    scored = _numbers(measures)
    expected = {(one.task, one.subject, metric): value for one in measures for metric, value in one.constant.items()}
    return [Check("constant", *key, value, worst.get(key, expected.get(key, 0.0))) for key, value in scored.items()]


def _by_chance(
    model: str,
    table: EmbeddingTable,
    draw: Callable[[EmbeddingTable, int], EmbeddingTable],
    tasks: Sequence[Task],
    bound: Callable[[str], Bound],
    effort: Effort,
) -> list[Check]:
    """Compares the mean of many draws with chance."""
    least, most = effort.draws
    count = min(max(effort.queries // len(table.samples), least), most)
    draws = [_measures(draw(table, seed), random_text(DIM, seed), tasks) for seed in range(count)] if tasks else []
    numbers = [_numbers(one) for one in draws]
    checks = []
    for one in draws[0] if draws else ():
        for metric in (metric for metric in filter(_judged, one.statistics) if metric in one.chance):
            key, chance = (one.task, one.subject, metric), one.chance[metric]
            scored = [number[key] for number in numbers]
            tolerance = EXACT + effort.errors * _error(scored, chance, len(one.items))
            checks.append(Check(model, *key, fmean(scored), chance, tolerance, bound(metric)))
    return checks


def _reordered(table: EmbeddingTable, tasks: Sequence[Task]) -> list[Check]:
    """Compares the model's own numbers with those for another order of the items and of the classes."""
    texts = random_text(next(iter(table.vectors.values())).shape[1], seed=0)
    straight = _numbers(_measures(table, texts, tasks))
    turned = _numbers(_measures(reordered(table, seed=0), texts, list(map(_other_order, tasks))))
    return [Check("reordered", *key, turned[key], value) for key, value in straight.items()]


def _other_order(task: Task) -> Task:
    """The task with its classes in another order, unless the data may number them."""
    if not isinstance(task, ZeroShotTask) or task.label is None:
        return task
    return task.model_copy(update={"classes": dict(reversed(task.classes.items()))})


def _measures(table: EmbeddingTable, embed_text: TextEmbedder, tasks: Sequence[Task]) -> list[Measure]:
    return measure(table, embed_text, tasks, EvalConfig())


def _numbers(measures: Iterable[Measure]) -> dict[Key, float]:
    return {
        (one.task, one.subject, metric): one.statistics[metric].value
        for one in measures
        for metric in filter(_judged, one.statistics)
    }


def _judged(metric: str) -> bool:
    return metric not in UNJUDGED


def _no_luckier(metric: str) -> Bound:
    """Proper scores of probabilities are worse for random ones than for equal ones."""
    return "at least" if metric in PROPER else "equal"


def _no_better(metric: str) -> Bound:
    return "at least" if scale_of(metric).better == "lower" else "at most"


def _error(scored: Sequence[float], chance: float, queries: int) -> float:
    """The standard error of the mean of the draws. Draws may agree by luck: a share has a deviation of its own."""
    own = sqrt(chance * (1 - chance) / queries) if 0 < chance < 1 else 0.0
    return max(stdev(scored), own) / sqrt(len(scored))


def render_checks(checks: Sequence[Check]) -> Table:
    """The table for a rich console: a row per null model and metric, with the range over all subjects."""
    drawn = Table(
        title=Text("Self-test of the evaluation", style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for words in ("model", "task", "metric"):
        drawn.add_column(words, no_wrap=True)
    for words in ("scored", "expected", "tolerance"):
        drawn.add_column(words, justify="right", no_wrap=True)
    drawn.add_column("")
    for rows in _by_metric(checks):
        failed = [check.subject for check in rows if not check.holds]
        verdict = Text(f"wrong: {', '.join(failed)}", style="red") if failed else Text("holds", style="green")
        first = rows[0]
        scored, expected = _range([row.scored for row in rows], first), _range([row.expected for row in rows], first)
        bound = "" if first.bound == "equal" else f"{first.bound} "
        drawn.add_row(
            first.model, first.task, heading(first.metric), scored, f"{bound}{expected}", _tolerance(rows), verdict
        )
    return drawn


def _by_metric(checks: Sequence[Check]) -> list[list[Check]]:
    """The checks of all subjects, by null model, task and metric."""
    found: dict[Key, list[Check]] = {}
    for check in checks:
        found.setdefault((check.model, check.task, check.metric), []).append(check)
    return list(found.values())


def _tolerance(rows: Sequence[Check]) -> str:
    most = max(row.tolerance for row in rows)
    return "exact" if most == EXACT else f"± {_range([row.tolerance for row in rows], rows[0])}"


def _range(values: Sequence[float], check: Check) -> str:
    low, high = shown(min(values), check.metric), shown(max(values), check.metric)
    return low if low == high else f"{low}–{high}"

"""Evaluation examined by models whose scores are known: on the data at hand, through the code that examines a model.

A constant model ties everywhere, and a tie is wrong: it scores the worst that there is. A random model scores chance.
The model's own vectors dealt out to any item score no more than that; less, where some of them are alike. And the order
in which candidates stand changes nothing. Where one of these fails, every other number of the evaluation is void.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import fmean, stdev

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tercet.eval.composition import CompositionTask
from tercet.eval.config import EvalConfig
from tercet.eval.embed import EmbeddingTable, EvalError, TextEmbedder
from tercet.eval.evaluate import measure
from tercet.eval.formatting import heading, shown
from tercet.eval.load_tasks import load_tasks
from tercet.eval.measure import Measure
from tercet.eval.null_models import (
    DIM,
    constant,
    constant_text,
    dealt_out,
    drawn,
    drawn_text,
    opposed,
    reordered,
    thinned,
)
from tercet.eval.result import Json
from tercet.eval.retrieval import RetrievalTask
from tercet.eval.task import Task
from tercet.eval.zero_shot import ZeroShotTask

ITEMS = 400  # of the data that are looked at: the rules hold for any number
DRAWS = 16
ERRORS = 5.0  # standard errors: the mean of the draws lies beyond once in ten thousand
EXACT = 1e-9
KINDS = (RetrievalTask, ZeroShotTask, CompositionTask)
UNJUDGED = "median rank"  # no mean over queries, so that its expectation is not that of a single query

Key = tuple[str, str, str]  # task, subject, metric


@dataclass(frozen=True)
class Check:
    """One number of one stand-in: what it scored, and what it had to."""

    model: str
    task: str
    subject: str
    metric: str
    scored: float
    expected: float
    holds: bool

    def to_json(self) -> Json:
        return asdict(self)


def self_test(table: EmbeddingTable, tasks: Sequence[str | Task]) -> list[Check]:
    """Every number of these tasks, for each stand-in; what stand-ins score in a plugin's tasks is not known here."""
    few, asked = thinned(table, ITEMS), [task for task in load_tasks(tasks) if isinstance(task, KINDS)]
    if not asked:
        raise EvalError("none of these tasks has scores that are known beforehand; take `retrieval`")
    retrieval = [task for task in asked if isinstance(task, RetrievalTask)]
    return [
        *_constant(few, asked, retrieval),
        *_by_chance("random", lambda seed: drawn(few, seed), asked, _as_good),
        *_by_chance("dealt out", lambda seed: dealt_out(few, seed), retrieval, _no_better),
        *_reordered(few, asked),
    ]


def _constant(table: EmbeddingTable, tasks: Sequence[Task], retrieval: Sequence[Task]) -> list[Check]:
    """Retrieval's worst is what a model scores that puts every right answer last; other tasks' is nothing."""
    worst = _numbers(_measures(opposed(table), constant_text, retrieval))
    scored = _numbers(_measures(constant(table), constant_text, tasks))
    return [_check("constant", key, value, worst.get(key, 0.0), EXACT) for key, value in scored.items()]


def _by_chance(
    model: str,
    deal: Callable[[int], EmbeddingTable],
    tasks: Sequence[Task],
    agrees: Callable[[str, float, float], bool],
) -> list[Check]:
    """The mean of several draws beside chance."""
    draws = [_measures(deal(seed), drawn_text(DIM, seed), tasks) for seed in range(DRAWS)]
    numbers = [_numbers(draw) for draw in draws]
    checks = []
    for one in draws[0] if draws else ():
        for metric in filter(_judged, one.statistics):
            key, chance = (one.task, one.subject, metric), one.chance[metric]
            scored = [number[key] for number in numbers]
            most = EXACT + ERRORS * _error(scored, chance, len(one.items))
            holds = agrees(metric, fmean(scored) - chance, most)
            checks.append(Check(model, *key, fmean(scored), chance, holds))
    return checks


def _reordered(table: EmbeddingTable, tasks: Sequence[Task]) -> list[Check]:
    """The model's own numbers, with items and classes in their order and in another."""
    texts = drawn_text(next(iter(table.vectors.values())).shape[1], seed=0)
    straight = _numbers(_measures(table, texts, tasks))
    turned = _numbers(_measures(reordered(table, seed=0), texts, list(map(_other_order, tasks))))
    return [_check("reordered", key, turned[key], value, EXACT) for key, value in straight.items()]


def _other_order(task: Task) -> Task:
    if not isinstance(task, ZeroShotTask):
        return task
    return task.model_copy(update={"classes": dict(reversed(task.classes.items()))})


def _measures(table: EmbeddingTable, embed_text: TextEmbedder, tasks: Sequence[Task]) -> list[Measure]:
    return measure(table, embed_text, tasks, EvalConfig())


def _numbers(measures: Iterable[Measure]) -> dict[Key, float]:
    return {
        (one.task, one.subject, metric): one.value(metric)
        for one in measures
        for metric in filter(_judged, one.statistics)
    }


def _judged(metric: str) -> bool:
    return metric != UNJUDGED


def _check(model: str, key: Key, scored: float, expected: float, most: float) -> Check:
    return Check(model, *key, scored, expected, abs(scored - expected) <= most)


def _as_good(metric: str, above: float, most: float) -> bool:
    return abs(above) <= most


def _no_better(metric: str, above: float, most: float) -> bool:
    return -above <= most if metric.endswith("rank") else above <= most


def _error(scored: Sequence[float], chance: float, queries: int) -> float:
    """The standard error of the mean of the draws. Draws that agree by luck tell less than a share's own deviation."""
    own = sqrt(chance * (1 - chance) / queries) if 0 < chance < 1 else 0.0
    return max(stdev(scored), own) / sqrt(len(scored))


def render_checks(checks: Sequence[Check]) -> Table:
    """A row per stand-in and metric for a rich console: what it scored over all subjects, and what it had to."""
    drawn = Table(title=Text("Evaluation's self-test", style="bold"), title_justify="left", box=SIMPLE_HEAD)
    for words in ("model", "task", "metric"):
        drawn.add_column(words, no_wrap=True)
    for words in ("scored", "expected"):
        drawn.add_column(words, justify="right", no_wrap=True)
    drawn.add_column("")
    for rows in _together(checks):
        wrong = [check.subject for check in rows if not check.holds]
        verdict = Text(f"wrong: {', '.join(wrong)}", style="red") if wrong else Text("holds", style="green")
        first = rows[0]
        scored, expected = _range([row.scored for row in rows], first), _range([row.expected for row in rows], first)
        drawn.add_row(first.model, first.task, heading(first.metric), scored, expected, verdict)
    return drawn


def _together(checks: Sequence[Check]) -> list[list[Check]]:
    """The subjects of one number of one stand-in."""
    found: dict[Key, list[Check]] = {}
    for check in checks:
        found.setdefault((check.model, check.task, check.metric), []).append(check)
    return list(found.values())


def _range(values: Sequence[float], check: Check) -> str:
    low, high = shown(min(values), check.metric), shown(max(values), check.metric)
    return low if low == high else f"{low}–{high}"

"""evaluations.jsonl: the numbers of a run while it trains, a line for each evaluation, and what they decide.

A run that is taken up again forgets what was evaluated beyond its checkpoint. So the lines alone say when it has got no
better for long enough, on any number of ranks and however often it was cut short.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.errors import UserError, did_you_mean
from tercet.eval.load_tasks import load_tasks
from tercet.eval.result import Json
from tercet.training.config import EarlyStoppingConfig
from tercet.training.hooks.metrics_file import forget_after


@dataclass(frozen=True)
class EvaluationHistory:
    """The step and the score of the best evaluation, how many there were, and how many since brought nothing better."""

    best: int
    score: float
    count: int
    stalled: int


class Evaluations:
    """The lines of one run, read from disk whenever they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def forget_after(self, step: int) -> None:
        forget_after(self.path, step)

    def add(self, step: int, results: Sequence[Json]) -> None:
        with self.path.open("a", encoding="utf-8") as lines:
            print(json.dumps({"step": step, "results": results}), file=lines)

    def standing(self, config: EarlyStoppingConfig, start: int) -> EvaluationHistory | None:
        """How the run stands. Evaluations up to step `start`, where its stage began, do not count against it."""
        scores = {line["step"]: score(line["results"], config.task, config.metric) for line in self._lines()}
        if not scores:
            return None
        best = max(scores, key=lambda step: scores[step])  # the first of equals
        return EvaluationHistory(best, scores[best], len(scores), sum(step > max(best, start) for step in scores))

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def score(results: Sequence[Mapping[str, Any]], task: str, metric: str) -> float:
    """The metric's mean over the subjects and splits of a task, or of the tasks of a group."""
    names = {one.name for one in load_tasks([task])}
    found = [of_task["metrics"] for of_task in results if of_task["task"] in names]
    numbers = [(kind_of(name), float(value)) for metrics in found for name, value in metrics.items()]
    chosen = [value for kind, value in numbers if kind == metric]
    if not chosen:
        known = dict.fromkeys(kind for kind, _ in numbers)
        raise UserError(f"`{task}` has no metric `{metric}` to stop by; {did_you_mean(metric, known)}")
    return sum(chosen) / len(chosen)


def kind_of(name: str) -> str:
    """A metric without its subject."""
    return name.rpartition(" ")[2]

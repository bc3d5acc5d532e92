"""evaluations.jsonl: one line for each evaluation of a run. Early stopping and the check for overfitting read it.

A resumed run deletes the lines after its checkpoint. So an interruption does not change when a run stops early.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tercet.errors import UserError, did_you_mean
from tercet.eval.load_tasks import names_within
from tercet.eval.report.curves import read_lines
from tercet.eval.result import Json, Result, from_json
from tercet.training.checkpoints.config import BestConfig
from tercet.training.history.overfitting import HeldOutScore
from tercet.training.hooks.metrics_file import forget_after

EVALUATIONS = "evaluations.jsonl"  # in the run's folder


@dataclass(frozen=True)
class EvaluationHistory:
    """The step and score of the best evaluation, the number of evaluations, and how many came after the best one."""

    best: int
    score: float
    count: int
    stalled: int


class Evaluations:
    """The evaluations of one run. Every call reads the file again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def forget_after(self, step: int) -> None:
        forget_after(self.path, step)

    def add(self, step: int, results: Sequence[Json]) -> None:
        with self.path.open("a", encoding="utf-8") as lines:
            print(json.dumps({"step": step, "results": results}), file=lines)

    def history(self, config: BestConfig, start: int) -> EvaluationHistory | None:
        """The evaluations so far. `stalled` does not count those up to `start`, the step where the stage began."""
        scores = self._scores(config)
        if not scores:
            return None
        best = max(scores, key=lambda step: scores[step])  # the first of equals
        return EvaluationHistory(best, scores[best], len(scores), sum(step > max(best, start) for step in scores))

    def best(self, config: BestConfig, steps: Collection[int]) -> int | None:
        """The best of these steps, and the first of equals; None if none of them was evaluated."""
        scores = {step: value for step, value in self._scores(config).items() if step in steps}
        return max(scores, key=lambda step: scores[step]) if scores else None

    def results(self) -> list[tuple[int, list[Result]]]:
        """The step and the results of each evaluation."""
        return [(line["step"], from_json(line["results"])) for line in self._lines()]

    def held_out(self, task: str, metric: str) -> list[HeldOutScore]:
        """The metric's mean over the subjects and splits of a task, in the order of the steps.

        The interval is the mean of the intervals, which is wider than the interval of the mean. The result is above
        chance if any of the averaged results is.
        """
        names = names_within(task)
        scores = []
        for line in self._lines():
            found = [one for one in from_json(line["results"]) if one.task in names and one.metric == metric]
            ends = [(one.value, one.low, one.high) for one in found if one.low is not None and one.high is not None]
            if ends:
                value, low, high = (fmean(values) for values in zip(*ends, strict=True))
                above = any(one.above_chance for one in found)
                scores.append(HeldOutScore(line["step"], value, low, high, above))
        return scores

    def _scores(self, config: BestConfig) -> dict[int, float]:
        return {line["step"]: score(line["results"], config) for line in self._lines()}

    def _lines(self) -> list[dict[str, Any]]:
        """The lines in the order of the steps. If a step has two lines, the later one counts."""
        by_step = {int(line["step"]): line for line in read_lines(self.path)}
        return [by_step[step] for step in sorted(by_step)]


def score(results: Sequence[Mapping[str, Any]], config: BestConfig) -> float:
    """The metric's mean over the subjects and splits of a task, or of the tasks in a group."""
    names = names_within(config.task)
    found = [one for one in from_json(results) if one.task in names]
    chosen = [one.value for one in found if one.metric == config.metric]
    if not chosen:
        known = dict.fromkeys(one.metric for one in found)
        fix = did_you_mean(config.metric, known)
        raise UserError(f"{config.key}.metric: `{config.task}` has no metric `{config.metric}`; {fix}")
    return sum(chosen) / len(chosen)

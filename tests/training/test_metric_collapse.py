"""Which evaluations warn that a metric collapsed, and where a run says so."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tercet.distributed import World
from tercet.eval.evaluator import Evaluated
from tercet.eval.result import Result
from tercet.training.config import RunConfig
from tercet.training.evaluation.run import RunEvaluation
from tercet.training.history.metric_collapse import collapses, in_words
from tercet.training.hooks.metrics_file import losses
from tests.training.tiny import recipe

CHANCE = 0.05


def found(value: float, metric: str = "R@1", half: float = 0.06, subject: str = "image→text") -> Result:
    return Result(subject, metric, value, value - half, value + half, CHANCE, 100, "retrieval", "", "val")


def warned(*values: float, metric: str = "R@1", half: float = 0.06, chance: float = CHANCE) -> list[int]:
    """The evaluations, counted from 1, at which the metric collapses."""
    history = [
        (step, [Result("a→b", metric, value, value - half, value + half, chance, 100, "retrieval")])
        for step, value in enumerate(values, start=1)
    ]
    return [end for end in range(1, len(values) + 1) if collapses(history[:end])]


def test_a_metric_collapses_once_until_it_recovers() -> None:
    assert warned(0.05, 0.4, 0.42, 0.06, 0.05, 0.07) == [4]
    assert warned(0.05, 0.4, 0.06, 0.38, 0.05) == [3, 5]
    assert warned(0.05, 0.4, 0.2) == [3]  # far above chance, and worse by more than both intervals
    assert warned(0.05, 0.4, 0.29) == []  # the intervals meet
    assert warned(0.05, 0.08, 0.01, 0.0) == []  # it was never above chance
    assert warned(50, 4, 5, 30, metric="median rank", half=2, chance=50) == [4]
    assert warned(50, 30, 4, metric="mean rank", half=2, chance=50) == []


def test_results_without_an_interval_are_not_judged() -> None:
    history = [(step, [Result("a", "score", value, None, None, None, None)]) for step, value in enumerate((0.9, 0.1))]
    assert collapses(history) == []


def test_noise_gives_no_alarm_and_a_collapse_always_does() -> None:
    """200 runs of eight evaluations on 100 items each, which are drawn anew for every evaluation."""
    draws, items = np.random.default_rng(0), 100

    def intervals(rates: list[float]) -> list[tuple[int, list[Result]]]:
        """By Agresti and Coull."""
        history = []
        for step, rate in enumerate(rates):
            share = (draws.binomial(items, rate) + 2) / (items + 4)
            half = 1.96 * math.sqrt(share * (1 - share) / (items + 4))
            history.append((step, [Result("a→b", "R@1", share, share - half, share + half, CHANCE, items)]))
        return history

    def alarms(rates: list[float]) -> float:
        runs = [intervals(rates) for _ in range(200)]
        return sum(any(collapses(run[:end]) for end in range(1, len(run) + 1)) for run in runs) / len(runs)

    assert alarms([CHANCE] * 8) < 0.01
    assert alarms([0.05, 0.06, 0.1, 0.2, 0.3, 0.35, 0.4, 0.4]) < 0.02
    assert alarms([0.4] * 8) < 0.08
    assert alarms([0.05, 0.1, 0.3, 0.4, 0.4, 0.4, 0.4, 0.05]) == 1.0


class Foretold:
    """An evaluator whose next results are set."""

    datasets = ("val",)
    results: list[Result]

    def __call__(self, *_: object) -> Evaluated:
        return Evaluated(self.results, {})

    def trust(self, _: Evaluated) -> None:
        pass

    def galleries(self, *_: object) -> list[object]:
        return []


@pytest.mark.parametrize("warns", [True, False])
def test_a_run_says_so_on_the_console_in_its_metrics_and_in_its_report(
    tmp_path: Path, warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    values = recipe(tmp_path, tmp_path, eval={"every": 100, "warn": warns})
    config = RunConfig.model_validate(values | {"data": values["data"] | {"val": str(tmp_path)}})
    metrics = [{"step": step, "loss": 5 - step / 1000, "time": step} for step in (100, 200, 300)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in metrics))
    run, foretold = RunEvaluation(config, tmp_path, World()), Foretold()
    run.evaluator = foretold  # type: ignore[assignment]
    for step, scores in ((100, (0.4, 0.5)), (200, (0.3, 0.2))):
        foretold.results = [found(scores[0]), found(scores[1], subject="text→image")]
        run.note(None, step)  # type: ignore[arg-type]
    foretold.results = [found(0.04), found(0.2, subject="text→image")]
    run.conclude(None, config, 300)  # type: ignore[arg-type]
    words = {
        200: "text→image R@1 of retrieval on val fell from 50.0 % at step 100 to 20.0 %",
        300: "image→text R@1 of retrieval on val fell from 40.0 % at step 100 to 4.0 %, no better than chance (5.0 %)",
    }
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    events = [{key: line[key] for key in ("step", "event", "metrics")} for line in lines if "event" in line]
    report = (tmp_path / "report.html").read_text()
    if not warns:
        assert (said, events, "Collapse" in report) == ([], [], False)
        return
    assert [line.partition(". Lower")[0] for line in said] == [
        f"tercet: step {step}: warning: {line}" for step, line in words.items()
    ]
    assert events[1] == {
        "step": 300,
        "event": "metric_collapse",
        "metrics": [
            {"dataset": "val", "task": "retrieval", "metric": "image→text R@1", "value": 0.04, "best": 0.4,
             "best_step": 100, "to_chance": True},
        ],
    }  # fmt: skip
    assert [event["step"] for event in events] == [200, 300]
    assert losses(tmp_path / "metrics.jsonl") == [(line["step"], line["loss"]) for line in metrics]
    assert all(f'<p class="warning">Collapse at step {step}: {line}</p>' in report for step, line in words.items())


def test_the_first_line_is_about_a_metric_at_chance() -> None:
    before, after = (0.4, 0.5, 0.6), (0.2, 0.04, 0.3)
    history = [
        (step, [found(value, subject=name) for name, value in zip("abc", values, strict=True)])
        for step, values in ((1, before), (2, after))
    ]
    words = in_words(collapses(history))
    assert words.startswith("b R@1 of retrieval on val fell from 50.0 % at step 1 to 4.0 %, no better than chance")
    assert words.endswith(" (2 more metrics fell)")

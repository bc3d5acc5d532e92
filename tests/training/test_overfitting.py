"""Which curves overfit and which do not, and where a run says so."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from tercet.distributed import World
from tercet.eval.evaluator import Evaluated
from tercet.eval.report.gallery import Gallery
from tercet.eval.result import Result, to_json
from tercet.training.config import RunConfig
from tercet.training.evaluation.run import RunEvaluation
from tercet.training.history.evaluations import Evaluations
from tercet.training.history.overfitting import HeldOutScore, overfitting
from tests.training.tiny import recipe

STEPS = 400
FALLING = [(step, 5 * math.exp(-step / 60)) for step in range(1, STEPS + 1)]  # to 0.007
HALVED = [(step, 5 - 2.5 * step / STEPS) for step in range(1, STEPS + 1)]
FLAT = [(step, 5.0) for step in range(1, STEPS + 1)]


def scores(*values: float, half: float = 0.03, chance: float = 0.01) -> list[HeldOutScore]:
    """Evaluations at equal distances, with an interval of ± `half`."""
    every = STEPS // len(values)
    return [
        HeldOutScore(every * at, value, value - half, value + half, value - half > chance)
        for at, value in enumerate(values, start=1)
    ]


def test_a_metric_that_falls_beyond_its_intervals_while_the_loss_falls_is_overfitting() -> None:
    words = overfitting(HALVED, scores(0.1, 0.24, 0.2, 0.1), "R@1")
    then, now = (sum(HALVED[step - 1][1] for step in range(end - 19, end + 1)) / 20 for end in (200, 400))
    fell = f"while the training loss fell from {then:.3g} to {now:.3g}"
    assert words == f"held-out R@1 was best at step 200 (24.0 %) and fell to 10.0 % at step 400, {fell}"


def test_a_loss_near_zero_with_held_out_results_at_chance_is_overfitting() -> None:
    words = overfitting(FALLING, scores(0.02, 0.015), "R@1")
    assert words is not None
    assert ", but held-out R@1 is not above chance: the model has memorised its training samples; start" in words
    assert overfitting(FALLING, scores(0.015), "R@1") == words


@pytest.mark.parametrize(
    ("losses", "evaluations"),
    [
        (HALVED, scores(0.1, 0.2, 0.3, 0.4)),  # still getting better
        (FALLING, scores(0.1, 0.3, 0.3, 0.3)),  # no better, no worse
        (HALVED, scores(0.1, 0.24, 0.2, 0.19)),  # a fall within the intervals
        (HALVED, scores(0.3, 0.1, 0.3, 0.29)),  # a dip that is made up for
        (FLAT, scores(0.1, 0.24, 0.2, 0.1)),  # worse on training samples, too: training fails, it does not overfit
        (HALVED[::-1], scores(0.1, 0.24, 0.2, 0.1)),
        (HALVED, scores(0.01, 0.02, 0.01)),  # at chance, but little is learned of the training samples either
        (FALLING, scores(0.3)),
        (FALLING, []),
        ([], scores(0.3, 0.1)),
    ],
)
def test_other_curves_are_not_overfitting(losses: Sequence[tuple[int, float]], evaluations: list[HeldOutScore]) -> None:
    steps = [(step, loss) for step, (_, loss) in enumerate(losses, start=1)]
    assert overfitting(steps, evaluations, "R@1") is None


def found(value: float, subject: str = "a→b", metric: str = "R@1") -> Result:
    return Result(subject, metric, value, value - 0.05, value + 0.05, 0.01, 90, "retrieval", "Retrieval", "val")


def test_the_score_of_an_evaluation_is_the_mean_over_its_subjects(tmp_path: Path) -> None:
    lines = Evaluations(tmp_path / "evaluations.jsonl")
    for step, values in ((20, (0.5, 0.5)), (10, (0.2, 0.4)), (20, (0.05, 0.03))):
        pairs = [found(values[0]), found(values[1], "b→a"), found(0.9, metric="R@10")]
        lines.add(step, to_json(pairs, "run"))
    first, last = lines.held_out("retrieval", "R@1")
    assert first == HeldOutScore(10, *map(pytest.approx, (0.3, 0.25, 0.35)), above_chance=True)
    assert last == HeldOutScore(20, *map(pytest.approx, (0.04, -0.01, 0.09)), above_chance=False)


class Foretold:
    """An evaluator that knows its result."""

    datasets = ("val",)

    def __init__(self, result: Result) -> None:
        self.result = result

    def __call__(self, *_: object, **__: object) -> Evaluated:
        return Evaluated([self.result], {})

    def trust(self, _: Evaluated) -> None:
        pass

    def galleries(self, *_: object) -> list[Gallery]:
        return []


@pytest.mark.parametrize("stops", [True, False])
def test_overfitting_is_reported_in_the_console_and_the_report(
    tmp_path: Path, stops: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"eval": {"every": 10}, "early_stopping": {"metric": "R@1"} if stops else None}
    values = recipe(tmp_path, tmp_path, **changes)
    config = RunConfig.model_validate(values | {"data": values["data"] | {"val": str(tmp_path)}})
    records = [{"step": step, "loss": None if step == 1 else loss, "time": step} for step, loss in HALVED]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    run = RunEvaluation(config, tmp_path, World())
    for step, value in ((100, 0.4), (200, 0.2), (400, 0.1))[: 3 if stops else 2]:
        run.evaluations.add(step, to_json([found(value)], "tiny"))
    run.evaluator = Foretold(found(0.4 if stops else 0.1))  # type: ignore[assignment]
    run.conclude(None, config, 400)  # type: ignore[arg-type]
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("overfitting", "early"))]
    fell = "overfitting: held-out R@1 was best at step 100 (40.0 %) and fell to 10.0 % at step 400, while"
    assert shown[-1].startswith(fell)
    assert shown[-1].endswith("; set early_stopping to keep the best weights") is not stops
    best = (
        "early stopping: the weights are those of step 100, the best of 3 evaluations (mean R@1 of retrieval: 40.0 %)"
    )
    assert shown[:-1] == ([f"{best}; the run ended at step 400"] if stops else [])
    report = (tmp_path / "report.html").read_text()
    assert f'<p class="warning">{fell.capitalize().replace("r@1", "R@1")}' in report
    assert "Held-out R@1 %" in report
    steps = [json.loads(line)["step"] for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert steps == [100, 200, 400]

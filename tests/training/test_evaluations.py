"""What evaluations decide, by their lines alone; how long a run is; when it warms up and is evaluated."""

import html
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.config import EvalConfig
from tercet.eval.embedding.embed import EvalError
from tercet.eval.ranking.ranking import Ranking
from tercet.eval.result import Result, to_json
from tercet.eval.retrieval import retrieval
from tercet.models.multimodal import Multimodal
from tercet.training.config import RunConfig
from tercet.training.engines.config import ScheduleConfig
from tercet.training.engines.schedule import learning_rate
from tercet.training.history.config import EarlyStoppingConfig
from tercet.training.history.evaluations import EvaluationHistory, Evaluations, score
from tests.training.tiny import recipe, run

STOPPING = EarlyStoppingConfig(patience=2)
GENUINE = retrieval.rank_rights


def results(*values: float) -> list[dict[str, object]]:
    """One split after another, each with two subjects of one metric and a number that does not count."""
    found = [
        Result(subject, metric, number, 0.0, 1.0, 0.1, 8, "retrieval", dataset=f"val{at}")
        for at, value in enumerate(values)
        for subject, metric, number in (("a→b", "R@1", value), ("b→a", "R@1", value / 2), ("a→b", "R@10", 1.0))
    ]
    return to_json(found, "m")


def test_the_score_is_the_mean_over_subjects_and_splits() -> None:
    assert score(results(0.4, 0.8), STOPPING) == pytest.approx((0.4 + 0.2 + 0.8 + 0.4) / 4)
    with pytest.raises(UserError, match=r"early_stopping.metric: `retrieval` has no metric `R@2`; .*`R@1`"):
        score(results(0.4), EarlyStoppingConfig(metric="R@2"))


def test_metrics_whose_names_end_alike_are_not_averaged_together() -> None:
    named = {"accuracy": 0.9, "text-only accuracy": 0.3, "text score": 0.2, "image score": 0.4}
    found = [Result("image, swap", name, value, 0.0, 1.0, 0.1, 8, "winoground") for name, value in named.items()]
    for name, value in named.items():
        assert score(to_json(found, "m"), EarlyStoppingConfig(task="winoground", metric=name)) == value


def test_the_first_of_equal_scores_is_the_best_and_each_stage_starts_with_full_patience(tmp_path: Path) -> None:
    lines = Evaluations(tmp_path / "evaluations.jsonl")
    assert lines.history(STOPPING, 0) is None
    for step, value in ((10, 0.2), (20, 0.6), (30, 0.6), (40, 0.1)):
        lines.add(step, results(value))
    assert lines.history(STOPPING, 0) == EvaluationHistory(20, pytest.approx(0.45), 4, stalled=2)
    assert lines.history(STOPPING, 30) == EvaluationHistory(20, pytest.approx(0.45), 4, stalled=1)
    lines.forget_after(10)
    assert lines.history(STOPPING, 0) == EvaluationHistory(10, pytest.approx(0.15), 1, stalled=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_stopping": {}}, "`early_stopping` needs evaluations during the run"),
        ({"early_stopping": {"metric": "median rank"}}, "`metric` `median rank` is not better if it is higher"),
        ({"epochs": 2, "stages": [{"name": "a", "steps": 3}], "steps": 3}, "`epochs` does not work with stages"),
        ({"stages": [{"name": "a", "steps": 0.3}, {"name": "b", "steps": 0.6}]}, "`stages` has shares .* up to 0.9"),
        ({"stages": [{"name": "a", "steps": 0.5}, {"name": "b", "steps": 5}]}, "`stages` has shares .* up to 5.5"),
    ],
)
def test_contradicting_steps_stages_and_early_stopping_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate(recipe(tmp_path, tmp_path, **changes))


def test_epochs_are_converted_to_steps_and_stay_in_the_written_recipe(tmp_path: Path) -> None:
    values = {key: value for key, value in recipe(tmp_path, tmp_path, epochs=1.5).items() if key != "steps"}
    config = RunConfig.model_validate(values)
    written = config.model_dump(mode="json")
    assert "steps" not in written
    assert RunConfig.model_validate(written) == config
    counted = config.counted(101)
    assert (counted.steps, counted.epochs) == (10, None)  # 151.5 samples in batches of 16
    assert counted.counted(10**6) == counted


@pytest.mark.parametrize("steps", [2, 7, 20, 101])
def test_stages_given_as_shares_add_up_to_the_steps_of_the_run(tmp_path: Path, steps: int) -> None:
    stages = [{"name": str(at), "steps": share} for at, share in enumerate((0.15, 0.35, 0.5))]
    config = RunConfig.model_validate(recipe(tmp_path, tmp_path, steps=steps, stages=stages))
    assert sum(config.lengths) == steps
    assert config.lengths == pytest.approx([0.15 * steps, 0.35 * steps, 0.5 * steps], abs=1)
    assert [config.stage(at).steps for at in range(3)] == config.lengths


def test_steps_given_as_a_share_equal_the_same_number_of_steps() -> None:
    share, steps = ScheduleConfig(warmup=0.25), ScheduleConfig(warmup=5)
    rates = [[learning_rate(config, 1.0, at, 20) for at in range(20)] for config in (share, steps)]
    assert rates[0] == rates[1]
    assert EvalConfig(every=0.1).interval(1000) == EvalConfig(every=100).interval(50) == 100
    assert EvalConfig(every=0.1).interval(5) == 1
    assert EvalConfig().interval(5) is None


def test_a_run_whose_evaluation_cannot_be_trusted_ends_in_one_line(world_folder: Path, tmp_path: Path) -> None:
    data = recipe(world_folder, tmp_path)["data"] | {"val": str(world_folder / "val")}
    values = recipe(world_folder, tmp_path / "run", steps=1, data=data)
    with (
        patch.object(retrieval, "rank_rights", every_item_is_found),
        pytest.raises(UserError, match="the evaluation of task `retrieval` cannot be trusted: the"),
    ):
        run(World(), RunConfig.model_validate(values).model_dump(mode="json"))
    assert not (tmp_path / "run" / "eval.json").exists()


def every_item_is_found(*arguments: Any, **options: Any) -> Ranking:
    found = GENUINE(*arguments, **options)
    return replace(found, before_QK=torch.zeros_like(found.before_QK))


def test_a_run_without_tasks_embeds_nothing(world_folder: Path, tmp_path: Path) -> None:
    data = recipe(world_folder, tmp_path)["data"] | {"val": str(world_folder / "val")}
    evaluation = {"tasks": [], "shortcuts": 8}
    values = recipe(world_folder, tmp_path / "run", steps=1, data=data, eval=evaluation)
    with patch.object(Multimodal, "embed", side_effect=AssertionError("embedded")):
        run(World(), values)
    assert json.loads((tmp_path / "run" / "eval.json").read_text()) == []
    assert "shortcuts: 8" in (tmp_path / "run" / "report.html").read_text()


def test_a_task_that_lacks_something_costs_a_run_no_other_result(
    world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = recipe(world_folder, tmp_path)["data"] | {"val": str(world_folder / "val")}
    (tmp_path / "boats.yaml").write_text(
        "{extends: zero_shot_shape, title: Boats, label: boat, count: {}, classes: {sail: sail, row: row}}"
    )
    boats = str(tmp_path / "boats.yaml")
    evaluation = {"tasks": ["retrieval", boats], "every": 1, "shortcuts": 0}
    run(World(), recipe(world_folder, tmp_path / "run", steps=2, data=data, eval=evaluation))
    (found,) = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert found["task"] == "retrieval"
    reason = "tiny was not evaluated by boats on val: task `boats` needs `boat`"
    assert capsys.readouterr().err.count(f"tercet: warning: {reason}") == 1
    assert f"Left out: {reason}" in html.unescape((tmp_path / "run" / "report.html").read_text())
    with pytest.raises(EvalError, match="task `boats` needs `boat`"):  # nothing is left
        run(World(), recipe(world_folder, tmp_path / "other", steps=1, data=data, eval={"tasks": [boats]}))

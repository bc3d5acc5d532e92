"""Fine-tuning end to end, on two ranks: what trains, what the run is compared with, and with which weights it ends."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tercet.distributed import World
from tercet.errors import UserError
from tercet.eval.result import Result, to_json
from tercet.models.multimodal import build_model
from tercet.testing import on_ranks
from tercet.training.config import RunConfig
from tercet.training.evaluation.run import RunEvaluation
from tercet.training.pretrained import load_model
from tercet.training.recipe import load_recipe
from tests.training.tiny import MODEL, TOWER, losses, recipe, run, saved

Job = tuple[dict[str, Any], int | None]
Scripted = tuple[dict[str, Any], int | None, dict[int, float]]

TOWERS = ("image", "text")
IMAGE = {**MODEL["image"], "options": {**TOWER, "depth": 3}, "layer_decay": 0.7}
DEEP = {"dim": 16, "text": MODEL["text"], "image": IMAGE}
LORA = DEEP | {modality: {**DEEP[modality], "lora": {"rank": 2}} for modality in TOWERS}
ADAPTERS = DEEP | {modality: {**DEEP[modality], "adapter": {}, "unlocked": 0} for modality in TOWERS}
LOCKED = DEEP | {"image": {**DEEP["image"], "unlocked": 1}}
STAGES = [
    {"name": "last", "steps": 3},
    {"name": "more", "steps": 1, "set": {"model.image.unlocked": 2, "schedule.warmup": 0}},
]
LINE = {"wise_ft": [0, 0.25, 1], "before": True, "keep_wise_ft": True, "report": True}
CLASSES = """
kind: zero_shot
title: Kinds of things
what: kind
classes: {circle: circle, square: square, triangle: triangle, star: star, cross: cross, heart: heart, ring: ring}
templates: ['a drawing of a {class}.']
"""
STOPPING = {"metric": "R@1", "patience": 2}
SCORES = {0: 0.1, 1: 0.3, 2: 0.5, 3: 0.2, 4: 0.5, 5: 0.9, 6: 0.9}  # nothing better than step 2 by step 4


def pairs(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """A short run of one pair that is evaluated on two splits."""
    values = recipe(data, out, **{"pairs": {"image-text": 1.0}, "ema": None, "steps": 6} | changes)
    splits = {"val": str(data / "val"), "new": str(data / "combinations")}
    held_out = {"val": splits} if "eval" in changes else {}
    return values | {"data": values["data"] | held_out | {"workers": 0}}


def stopping(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return pairs(data, out, eval={"every": 1, "before": True, "report": False}, early_stopping=STOPPING, **changes)


def staged(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "steps"} | {"stages": STAGES}


def scripted(world: World, values: dict[str, Any], stop: int | None, scores: dict[int, float]) -> None:
    """A run of which every evaluation is foretold."""

    def note(self: RunEvaluation, model: object, step: int) -> list[dict[str, Any]]:
        value = scores[step]
        results = to_json([Result("image→text", "R@1", value, value - 0.1, value + 0.1, 0.01, 90, "retrieval")], "")
        if world.first:
            self.evaluations.add(step, results)
        return results

    with patch.object(RunEvaluation, "note", note):
        run(world, values, stop)


def run_all(world: World, jobs: list[Job], foretold: list[Scripted]) -> None:
    for values, stop in jobs:
        run(world, values, stop)
    for values, stop, scores in foretold:
        scripted(world, values, stop, scores)


@pytest.fixture(scope="module")
def runs(world_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs of this module, side by side in one folder."""
    out = tmp_path_factory.mktemp("runs")
    jobs: list[Job] = []
    for name, model, zero in (("lora", LORA, 1), ("adapters", ADAPTERS, 2)):
        values = pairs(world_folder, out / name / "whole", model=model, zero=zero)
        parts = pairs(world_folder, out / name / "parts", model=model, zero=zero, checkpoint={"every": 2})
        jobs += [(values, None), (parts, 3), (parts, None)]
    (out / "kinds.yaml").write_text(CLASSES)
    line = {**LINE, "tasks": ["retrieval", str(out / "kinds.yaml")]}
    jobs += [(pairs(world_folder, out / "line", model=LORA, steps=4, eval=line), None)]
    jobs += [(staged(pairs(world_folder, out / "staged", model=LOCKED, clip=0)), None)]
    jobs += [(pairs(world_folder, out / "locked", model=LOCKED, clip=0, steps=3), None)]
    jobs += [(pairs(world_folder, out / "two", steps=2, schedule={"warmup": 3, "name": "constant"}), None)]
    constant = {"schedule": {"warmup": 3, "name": "constant"}}
    whole, parts = (stopping(world_folder, out / "stopped" / name, **constant) for name in ("whole", "parts"))
    cut = parts | {"checkpoint": {"every": 1, "keep": 1}}
    late = {step: step / 10 for step in range(7)}
    foretold: list[Scripted] = [(whole, None, SCORES), (cut, 3, SCORES), (cut, None, SCORES), (cut, None, SCORES)]
    foretold += [(stopping(world_folder, out / "stopped" / "late", steps=3), None, late)]
    on_ranks(run_all, 2, jobs, foretold)
    return out


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not before[name].equal(after[name])}


@pytest.mark.parametrize(("name", "trains"), [("lora", ("lora_", "head.")), ("adapters", ("head.",))])
def test_only_the_added_weights_and_the_head_are_trained(runs: Path, name: str, trains: tuple[str, ...]) -> None:
    config, after = load_recipe(str(runs / name / "whole")), saved(runs / name / "whole")
    fresh = build_model(config.model, config.terms, config.seed).state_dict()
    before = {f"weight/{path}": value for path, value in fresh.items()}
    trained = {path for path in before if any(part in path for part in trains)}
    assert 5 < len(trained) < len(before)
    assert moved(before, after) == trained
    moments = {path for path in after if path.startswith("optim/exp_avg/") and after[path].any()}
    assert {path.replace("optim/exp_avg/", "weight/") for path in moments} == trained


@pytest.mark.parametrize("name", ["lora", "adapters"])
def test_a_resumed_finetuning_run_is_bit_equal(runs: Path, name: str) -> None:
    whole, parts = saved(runs / name / "whole"), saved(runs / name / "parts")
    assert whole.keys() == parts.keys()
    assert not moved(whole, parts)
    assert losses(runs / name / "whole") == losses(runs / name / "parts")
    assert len(losses(runs / name / "whole")) == 6


def test_unlocking_a_block_starts_its_moments_and_keeps_those_of_the_others(runs: Path) -> None:
    """After one step m = β1 m' + (1 - β1) g and v = β2 v' + (1 - β2) g², of which g is the same in both."""
    before, after = saved(runs / "locked"), saved(runs / "staged")
    names = [path.removeprefix("optim/exp_avg/") for path in after if path.startswith("optim/exp_avg/")]
    opened = {name for name in names if f"optim/exp_avg/{name}" not in before}
    assert opened == {name for name in names if name.startswith("towers.image.trunk.layers.1.")}
    for name in names:
        m, v = (before.get(f"optim/{kind}/{name}", torch.zeros(())) for kind in ("exp_avg", "exp_avg_sq"))
        slope = (after[f"optim/exp_avg/{name}"] - 0.9 * m) / (1 - 0.9)
        expected = 0.98 * v + (1 - 0.98) * slope.square()
        torch.testing.assert_close(after[f"optim/exp_avg_sq/{name}"], expected, rtol=1e-2, atol=1e-9, msg=name)


def test_evaluation_between_the_weights_equals_that_of_interpolated_weights(runs: Path) -> None:
    folder = runs / "line"
    found, before = (json.loads((folder / file).read_text()) for file in ("eval.json", "before.json"))
    expected = [("val", "retrieval"), ("val", "kinds"), ("new", "retrieval"), ("new", "kinds")]
    assert [(one["dataset"], one["task"]) for one in found] == expected
    for one, other in zip(found, before, strict=True):
        curve = one["wise_ft"]["metrics"]
        assert list(curve) == ["0", "0.25", "1"]
        assert curve["0"] == pytest.approx(other["metrics"], abs=1e-9)
        assert curve["1"] == pytest.approx(one["metrics"], abs=1e-9)
        assert {metric: details["before"] for metric, details in one["details"].items()} == other["metrics"]
    scores = {alpha: sum(recalls(one["wise_ft"]["metrics"][alpha]) for one in found) for alpha in curve}
    assert scores[f"{found[0]['wise_ft']['best']:g}"] == max(scores.values())
    report = (folder / "report.html").read_text()
    assert "Between the weights before" in report
    assert evaluated(folder) == [0, 4]
    assert "<h3>Held-out R@1 %" in report
    assert "α was chosen on the same data" in report
    assert report.count("<th>before</th>") == len(expected)


def recalls(metrics: dict[str, float]) -> float:
    return sum(value for name, value in metrics.items() if name.endswith(" R@1"))


def test_the_kept_model_has_the_interpolated_weights(runs: Path) -> None:
    alpha = json.loads((runs / "line" / "eval.json").read_text())[0]["wise_ft"]["best"]
    start, end = load_file(runs / "line" / "start.safetensors"), load_model(str(runs / "line")).state_dict()
    kept = load_model(str(runs / "line" / "wise_ft")).state_dict()
    assert moved(start, end)
    assert kept.keys() == start.keys() == end.keys()
    for path, value in kept.items():
        expected = (1 - alpha) * start[path].double() + alpha * end[path].double()
        torch.testing.assert_close(value.double(), expected, atol=1e-7, rtol=1e-6, msg=path)


def test_wise_ft_without_saved_initial_weights_is_refused(world_folder: Path, tmp_path: Path) -> None:
    config = RunConfig.model_validate(pairs(world_folder, tmp_path, eval={"wise_ft": [0.5]}))
    with pytest.raises(UserError, match=r"eval.wise_ft: .* has no start.safetensors"):
        RunEvaluation(config, tmp_path, World()).resume(2)


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_a_run_stops_early_with_its_best_weights(runs: Path, name: str) -> None:
    """Step 2 is the best of steps 0 to 4, after two more the run ends; so it does when it is cut short between them,
    though one checkpoint is kept, and when it is asked to go on after its end."""
    folder = runs / "stopped" / name
    assert len(losses(folder)) == 4
    assert evaluated(folder) == [0, 1, 2, 3, 4]
    ended, best = saved(folder), saved(runs / "two")
    assert ended.keys() == best.keys()
    assert not moved(ended, best)
    state = json.loads((folder / "checkpoints" / "step_00000004" / "state.json").read_text())
    assert (state["step"], state["counters"]["step"]) == (4, 2)


def test_a_run_that_improves_does_not_stop_early(runs: Path) -> None:
    folder = runs / "stopped" / "late"
    assert len(losses(folder)) == 3
    assert evaluated(folder) == [0, 1, 2, 3]


def evaluated(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "evaluations.jsonl").read_text().splitlines()]

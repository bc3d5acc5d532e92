"""Stages: what one changes, what it carries over, and that a run resumes within the stage it was in."""

from pathlib import Path
from typing import Any

import torch

from tercet.testing import on_ranks
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, losses, recipe, saved

LOCKED = MODEL | {"image": {**MODEL["image"], "unlocked": 0}}


def staged(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    stages = [
        {"name": "locked", "steps": 5},
        {"name": "open", "steps": 6, "set": {"model.image.unlocked": None, "batch_size": 8, "optimizer.lr": 5e-4}},
    ]
    values = recipe(data, out, model=LOCKED, stages=stages, **changes)
    del values["steps"]
    return values


def of_image(out: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in saved(out).items() if name.startswith("weight/towers.image")}


def test_a_locked_tower_changes_only_in_the_stage_that_unlocks_it(world_folder: Path, tmp_path: Path) -> None:
    whole, locked = tmp_path / "whole", tmp_path / "locked"
    parts = staged(world_folder, tmp_path / "parts", checkpoint={"every": 2})
    first = staged(world_folder, locked)
    jobs = [(staged(world_folder, whole), None), (parts, 3), (parts, 8), (parts, None), (first, 5)]
    on_ranks(run_all, 2, jobs)
    assert len(losses(whole)) == 11
    assert losses(tmp_path / "parts") == losses(whole)
    resumed = saved(tmp_path / "parts")
    assert all(torch.equal(value, resumed[name]) for name, value in saved(whole).items())
    assert any(not torch.equal(value, of_image(whole)[name]) for name, value in of_image(locked).items())
    assert not any(name.startswith("optim/exp_avg/towers.image") for name in saved(locked))

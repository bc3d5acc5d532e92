"""Runs with pictures and texts of several sizes: in one step, and from stage to stage."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tercet.distributed import World
from tercet.models.multimodal import build_model
from tercet.models.tuning.positions import lengthened, stretch
from tercet.testing import on_ranks
from tercet.training.checkpoints.commit import newest
from tercet.training.checkpoints.reader import CHECKPOINTS, Saved
from tercet.training.config import RunConfig
from tercet.training.pretrained import load_model
from tests.training.test_resume import Job, run_all
from tests.training.tiny import MODEL, assert_same_run, losses, recipe, run, saved

CROPS: dict[str, Any] = {
    "fields": {"image.local": {"from": "image", "rows": 2, "crop": [0.1, 0.5], "size": 16}},
    "pairs": {},
    "terms": [{"between": ["image", "text"]}, {"between": ["image.local", "text"], "weight": 0.5}],
}
SMALL = {"model.image.size": 16, "model.image.patch_dropout": 0.5, "model.text.context_length": 10}
GROWING: dict[str, Any] = {
    "model": {name: tower for name, tower in MODEL.items() if name != "audio"}
    | {"text": {**MODEL["text"], "context_length": 24, "keep_positions": 4}},
    "memories": {"momentum": {"decay": 0.9}},
    "pairs": {},
    "terms": [{"between": ["image", "text"]}, {"name": "slow", "between": ["image", "momentum.text"]}],
    "stages": [{"name": "small", "steps": 2, "set": SMALL}, {"name": "full", "steps": 2}],
    "steps": 4,
}
TABLES = ("towers.image.positions", "towers.text.positions")


def take(processes: int, jobs: list[Job]) -> None:
    if processes == 1:
        run_all(World(), jobs)
    else:
        on_ranks(run_all, processes, jobs)


def test_a_step_at_two_sizes_is_the_same_on_two_processes_and_after_a_resume(
    world_folder: Path, tmp_path: Path
) -> None:
    def job(name: str, **changes: Any) -> dict[str, Any]:
        return recipe(world_folder, tmp_path / name, steps=3, **CROPS, **changes)

    run(World(), job("alone", zero=0))
    sharded = {"zero": 1, "micro_batch": 5}
    parts = job("parts", checkpoint={"every": 2}, **sharded)
    on_ranks(run_all, 2, [(job("whole", **sharded), None), (parts, 2), (parts, None)])
    found = assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert found["weight/towers.image.positions"].shape == (4, 32), "those of the tower's own size"
    alone = losses(tmp_path / "alone")
    assert alone[0] - alone[-1] > 0.01, "nothing was learned, so nothing was compared"
    assert losses(tmp_path / "whole") == pytest.approx(alone, rel=2e-5)


@pytest.mark.parametrize(("world", "zero"), [(1, 0), pytest.param(2, 3, marks=pytest.mark.long)])
def test_a_stage_fits_positions_and_a_run_resumes_at_its_border_and_within_it(
    world_folder: Path, tmp_path: Path, world: int, zero: int
) -> None:
    def job(name: str, **changes: Any) -> dict[str, Any]:
        return recipe(world_folder, tmp_path / name, zero=zero, **{**GROWING, **changes})

    parts, border = job("parts", checkpoint={"every": 1}), job("border")
    take(world, [(job("whole"), None), (parts, 1), (parts, 3), (parts, None), (border, 2)])
    before = saved(tmp_path / "border")
    assert before["weight/towers.image.positions"].shape == (1, 32)
    assert before["weight/towers.text.positions"].shape == (10, 32)

    path = newest(tmp_path / "border" / CHECKPOINTS).path
    assert path is not None
    full = RunConfig.model_validate(border).stage(1)
    model = build_model(full.model, full.terms, full.seed)
    Saved(path).fill(model)
    after = model.state_dict()
    others = [name for name in after if name not in TABLES]
    assert all(torch.equal(after[name], before[f"weight/{name}"]) for name in others)
    assert torch.equal(after[TABLES[0]], stretch(before[f"weight/{TABLES[0]}"], 4))  # type: ignore[arg-type]
    assert torch.equal(after[TABLES[1]], lengthened(before[f"weight/{TABLES[1]}"], 24, 4))  # type: ignore[arg-type]

    take(world, [(border, None)])
    found = assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "border")
    for kind in ("weight", "optim/exp_avg", "memory/ema", "memory/momentum"):
        assert found[f"{kind}/towers.image.positions"].shape == (4, 32)
        assert found[f"{kind}/towers.text.positions"].shape == (24, 32)
    assert load_model(str(tmp_path / "whole")).tower("image").intake.shape[:2] == (32, 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({}, r"`model.text.context_length` is missing: a stage changes it"),
        ({"context_length": 24}, r"is 24 after 10, of which .*keep_positions=20 leaves fewer than 2 .* set that to 8"),
    ],
)
def test_context_lengths_that_cannot_change_are_refused_before_training(text: dict[str, Any], message: str) -> None:
    model = GROWING["model"] | {"text": MODEL["text"] | text}
    with pytest.raises(ValidationError, match=message):
        RunConfig.model_validate(recipe(Path("shards"), Path("out"), **{**GROWING, "model": model}))

"""Runs with pictures of several sizes: in one step, and from stage to stage."""

from pathlib import Path
from typing import Any

import pytest

from tercet.distributed import World
from tercet.testing import on_ranks
from tests.training.test_resume import run_all
from tests.training.tiny import assert_same_run, losses, recipe, run

CROPS: dict[str, Any] = {
    "fields": {"image.local": {"from": "image", "rows": 2, "crop": [0.1, 0.5], "size": 16}},
    "pairs": {},
    "terms": [{"between": ["image", "text"]}, {"between": ["image.local", "text"], "weight": 0.5}],
}


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

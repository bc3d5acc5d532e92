"""The moving averages of a term are part of a checkpoint, and the same on any number of processes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tercet.testing import on_ranks
from tests.training.test_resume import run_all
from tests.training.tiny import losses, recipe, saved


def alip(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    term = {"between": ["image", "text", "text.synthetic"], "objective": {"name": "alip", "momentum": 0.8}}
    fields = {"text.synthetic": {"from": "text"}}
    values = recipe(data, out, terms=[term], fields=fields, steps=6, checkpoint={"every": 2}, **changes)
    del values["pairs"]
    return values


def test_a_run_resumes_with_its_averages(world_folder: Path, tmp_path: Path) -> None:
    whole, parts = alip(world_folder, tmp_path / "whole"), alip(world_folder, tmp_path / "parts")
    on_ranks(run_all, 1, [(whole, None), (parts, 3), (parts, None)])
    one, two = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    names = [name for name in one if name.startswith("memory/averages-image-text-text.synthetic/")]
    assert len(names) == 3
    assert len({1.0, *(float(one[name]) for name in names)}) == 4
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    on_ranks(run_all, 2, [(alip(world_folder, tmp_path / "two"), None)])
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)

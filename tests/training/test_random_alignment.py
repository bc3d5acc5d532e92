"""Random feature alignment in whole runs: the same on processes, chunks and ZeRO stages, and after a resume."""

from pathlib import Path
from typing import Any

import pytest

from tercet.testing import on_ranks
from tests.training.test_resume import run_all
from tests.training.tiny import MODEL, assert_same_run, losses, recipe

TERMS = [
    {"name": "contrast", "between": ["image", "text"], "weight": 0.5},
    {"name": "rafa", "between": ["image", "text"], "objective": "random_alignment"},
]


def aligned(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return recipe(data, out, steps=4, pairs={}, terms=TERMS, model={**MODEL, "audio": None}, **changes)


def test_processes_chunks_and_resumes_do_not_change_the_run(world_folder: Path, tmp_path: Path) -> None:
    """Two processes at ZeRO stage 3 in chunks; one process that is stopped and goes on."""
    whole, parts = (
        aligned(world_folder, tmp_path / "whole"),
        aligned(world_folder, tmp_path / "parts", checkpoint={"every": 2}),
    )
    two = aligned(world_folder, tmp_path / "two", zero=3, micro_batch=3)
    on_ranks(run_all, 1, [(whole, None), (parts, 3), (parts, None)])
    on_ranks(run_all, 2, [(two, None)])
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "whole"), rel=2e-5)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")

"""Runs whose reference weighs negatives and samples do not depend on processes, chunks or ZeRO stages."""

from pathlib import Path
from typing import Any

import pytest

from tercet.testing import on_ranks
from tests.training.test_memory_teacher import exported
from tests.training.test_resume import run_all
from tests.training.tiny import losses, recipe

TERMS = [
    {"between": ["image", "text"], "objective": {"name": "drrho"}, "references": {"teacher": "reference"}},
    {
        "between": ["audio", "text"],
        "objective": {"name": "drrho", "weigh": "samples", "temperature": 0.5, "reference_scale": 20},
        "references": {"teacher": "reference"},
    },
]


def weighed(data: Path, out: Path, reference: Path, **changes: Any) -> dict[str, Any]:
    memories = {"reference": {"kind": "teacher", "model": str(reference)}}
    return recipe(data, out, steps=4, pairs={}, terms=TERMS, memories=memories, **changes)


def test_processes_chunks_and_zero_stages_do_not_change_the_losses(world_folder: Path, tmp_path: Path) -> None:
    reference = exported(tmp_path / "reference")
    on_ranks(run_all, 1, [(weighed(world_folder, tmp_path / "alone", reference), None)])
    on_ranks(run_all, 2, [(weighed(world_folder, tmp_path / "two", reference, zero=3, micro_batch=3), None)])
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "alone"), rel=2e-5)
    assert len(set(losses(tmp_path / "alone"))) == 4

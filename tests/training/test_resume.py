"""A run that was cut short and taken up again is the run that was not, at any ZeRO stage, and elsewhere too."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tercet.distributed import World
from tercet.testing import on_ranks
from tests.training.tiny import losses, recipe, run, saved

Job = tuple[dict[str, Any], int | None]

REMEMBERED: dict[str, Any] = {
    "memories": {"queue": {"fields": ["image"], "size": 24, "start": 2}, "cartography": {}},
    "against": {"text": ["queue.image"]},
}


def run_all(world: World, jobs: list[Job]) -> None:
    for values, stop in jobs:
        run(world, values, stop)


def straight_and_resumed(data: Path, out: Path, **changes: Any) -> list[Job]:
    """20 steps in one go, and the same as 7, a stop in step 8, and 13."""
    whole = recipe(data, out / "whole", **REMEMBERED, **changes)
    parts = recipe(data, out / "parts", checkpoint={"every": 7}, **REMEMBERED, **changes)
    return [(whole, None), (parts, 7), (parts, None)]


def assert_bit_equal(out: Path) -> None:
    whole, parts = saved(out / "whole"), saved(out / "parts")
    assert whole.keys() == parts.keys()
    kinds = {"/".join(name.split("/")[:2]) for name in whole if not name.startswith("weight/")}
    assert kinds == {"optim/exp_avg", "optim/exp_avg_sq", "memory/ema", "memory/queue", "memory/cartography"}
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert losses(out / "whole") == losses(out / "parts")
    assert len(losses(out / "whole")) == 20


@pytest.mark.parametrize("world", [1, pytest.param(2, marks=pytest.mark.long)])
def test_resumed_runs_are_bit_equal_at_every_zero_stage(world_folder: Path, tmp_path: Path, world: int) -> None:
    """One process has no stages: it runs without chunks, and with them."""
    jobs, stages = [], (0, 1, 2, 3) if world > 1 else (0, 1)
    for zero in stages:
        micro_batch = 3 if zero in (1, 3) else None
        jobs += straight_and_resumed(world_folder, tmp_path / str(zero), zero=zero, micro_batch=micro_batch)
    on_ranks(run_all, world, jobs)
    for zero in stages:
        assert_bit_equal(tmp_path / str(zero))


def test_one_and_two_processes_give_the_same_losses(world_folder: Path, tmp_path: Path) -> None:
    for world, zero in ((1, 0), (2, 2)):
        on_ranks(run_all, world, [(recipe(world_folder, tmp_path / str(world), zero=zero), None)])
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert len(one) == 20
    assert one[0] - one[-1] > 0.1, "nothing was learned, so nothing was compared"
    assert two == pytest.approx(one, rel=1e-5)


def test_a_tower_that_no_term_uses_is_saved_equally_on_one_and_two_ranks(world_folder: Path, tmp_path: Path) -> None:
    for world, zero in ((1, 0), (2, 0), (2, 1)):
        out = tmp_path / f"{world}-{zero}"
        job = recipe(world_folder, out, steps=3, pairs={"image-text": 1.0}, zero=zero), None
        on_ranks(run_all, world, [job])
    alone = saved(tmp_path / "1-0")
    for name in ("2-0", "2-1"):
        others = saved(tmp_path / name)
        assert alone.keys() == others.keys()
        assert [key for key in alone if not torch.allclose(alone[key], others[key], rtol=1e-3, atol=2e-5)] == []


def test_resuming_at_another_zero_stage_and_number_of_processes_gives_the_same_losses(
    world_folder: Path, tmp_path: Path
) -> None:
    """7 steps on two ranks at stage 3, 6 on one at stage 0, 7 on two at stage 1: as 20 on one."""
    on_ranks(run_all, 1, [(recipe(world_folder, tmp_path / "whole", zero=0), None)])
    moving = recipe(world_folder, tmp_path / "moving", checkpoint={"every": 1})
    for world, zero, stop in ((2, 3, 7), (1, 0, 13), (2, 1, None)):
        on_ranks(run_all, world, [(moving | {"zero": zero}, stop)])
    assert losses(tmp_path / "moving") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    whole, moved = saved(tmp_path / "whole"), saved(tmp_path / "moving")
    for name in whole:
        assert torch.allclose(whole[name], moved[name], rtol=1e-3, atol=2e-5), name


def test_bf16_keeps_fp32_weights_and_gives_similar_losses_at_other_zero_stages_and_ranks(
    world_folder: Path, tmp_path: Path
) -> None:
    def job(name: str, **changes: Any) -> Job:
        return recipe(world_folder, tmp_path / name, steps=6, precision="bf16", **changes), None

    on_ranks(run_all, 1, [job("alone", zero=0)])
    on_ranks(run_all, 2, [job("two", zero=1), job("cached", zero=3, micro_batch=3)])
    alone = losses(tmp_path / "alone")
    fp32 = recipe(world_folder, tmp_path / "fp32", steps=6, zero=0)
    on_ranks(run_all, 1, [(fp32, None)])
    assert losses(tmp_path / "fp32") != pytest.approx(alone, rel=1e-7), "nothing ran in bf16"
    for name in ("fp32", "two", "cached"):
        assert losses(tmp_path / name) == pytest.approx(alone, rel=2e-2), name
    weights = {name: value for name, value in saved(tmp_path / "cached").items() if name.startswith("weight/")}
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert any(bool((value.bfloat16().float() != value).any()) for value in weights.values())

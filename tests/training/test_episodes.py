"""Episodes: a run killed at any moment resumes bit-equal, and any number of processes has the same ones."""

import json
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tercet.data_pipelines.columns import Column
from tercet.distributed import World
from tercet.errors import RunStopped
from tercet.plugins import load_plugins
from tercet.testing import RankFailed, on_ranks
from tercet.training.checkpoints import commit as protocol
from tercet.training.episodes.embed import SampleEmbedder
from tercet.training.episodes.store import EPISODES, prune_episodes
from tercet.training.loop.trainer import Trainer
from tests.training.episodes import EVERY, PLUGIN, STEPS, Job, columns, run_all, with_episodes
from tests.training.tiny import assert_same_run, losses, run


def assert_equal(out: Path, other: Path) -> None:
    assert_same_run(out, other)
    assert len(losses(out)) == STEPS
    last = range(EVERY, STEPS, EVERY)[-1]
    assert_same_columns(columns(out, last), columns(other, last), 0.0)


def assert_same_columns(one: dict[str, Column], two: dict[str, Column], tolerance: float) -> None:
    assert one.keys() == two.keys() == {"image", "text", "pair"}
    for name, column in one.items():
        np.testing.assert_array_equal(column.id_n, two[name].id_n)
        for key, value in column.values.items():
            np.testing.assert_allclose(value, two[name].values[key], rtol=0, atol=tolerance)


@pytest.mark.long
def test_a_resumed_run_reads_its_episodes_or_computes_them_again_at_every_zero_stage(
    world_folder: Path, tmp_path: Path
) -> None:
    jobs: list[Job] = []
    for zero in (0, 1, 2, 3):
        whole = with_episodes(world_folder, tmp_path / f"whole{zero}", zero=zero)
        parts = with_episodes(world_folder, tmp_path / f"parts{zero}", zero=zero, checkpoint={"every": 2})
        jobs += [(whole, None), (parts, 3), (parts, 5), (parts, None)]
    for rank in on_ranks(run_all, 2, jobs):
        assert rank == [[3, 6], [3], [3], [6]] * 4
    for zero in (0, 1, 2, 3):
        assert_equal(tmp_path / f"whole{zero}", tmp_path / f"parts{zero}")
    without = losses(tmp_path / "whole0")
    on_ranks(run_all, 1, [(with_episodes(world_folder, tmp_path / "other", episodes={"every": 4}), None)])
    other = losses(tmp_path / "other")
    assert other[:3] == pytest.approx(without[:3], rel=1e-5)
    assert other[3] != pytest.approx(without[3], rel=1e-5), "the episode changed nothing"


def test_one_and_two_processes_have_the_same_episodes_and_plans_and_a_run_may_move(
    world_folder: Path, tmp_path: Path
) -> None:
    one, two, moving = (with_episodes(world_folder, tmp_path / name) for name in ("one", "two", "moving"))
    moving |= {"checkpoint": {"every": 1}}
    on_ranks(run_all, 1, [(one, None)])
    on_ranks(run_all, 2, [(two, None), (moving, 4)])
    assert on_ranks(run_all, 1, [(moving, None)]) == [[[6]]]
    for name in ("two", "moving"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
        assert_same_columns(columns(tmp_path / name, 6), columns(tmp_path / "one", 6), 1e-5)
        plans = [(tmp_path / run / "plans" / "history.jsonl").read_text() for run in ("one", name)]
        assert plans[0] == plans[1]


def killed(world: World, values: dict[str, Any], when: str) -> None:
    """Ends this process at the first episode: before it embeds, when its draft is complete, or two steps later."""
    load_plugins([PLUGIN])
    rename, call, record = os.rename, SampleEmbedder.__call__, Trainer._record

    def die(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def renaming(old: Path, new: Path) -> None:
        if when == "draft" and Path(old).parent.name == EPISODES:
            assert (Path(old) / protocol.MANIFEST).is_file()
            die()
        rename(old, new)

    def recording(self: Trainer, stage: Any, progress: Any, *rest: Any) -> Any:
        if when == "after" and progress.step == EVERY + 2:
            die()
        return record(self, stage, progress, *rest)

    with (
        patch.object(SampleEmbedder, "__call__", die if when == "before" else call),
        patch.object(protocol.os, "rename", renaming),
        patch.object(Trainer, "_record", recording),
    ):
        run(world, values)


@pytest.mark.parametrize(("world", "moments"), [(1, ["before", "draft", "after"]), (2, ["draft"])])
def test_a_run_killed_before_within_or_after_an_episode_resumes_bit_equal(
    world_folder: Path, tmp_path: Path, world: int, moments: list[str]
) -> None:
    on_ranks(run_all, world, [(with_episodes(world_folder, tmp_path / "whole"), None)])
    for when in moments:
        every = 3 if when == "draft" else 2
        values = with_episodes(world_folder, tmp_path / when, checkpoint={"every": every})
        with pytest.raises(RankFailed):
            on_ranks(killed, world, values, when)
        place = tmp_path / when / EPISODES / f"step_{EVERY:08d}"
        assert place.is_dir() == (when == "after")
        assert place.with_suffix(".tmp").is_dir() == (when == "draft")
        assert on_ranks(run_all, world, [(values, None)])[0] == [[6] if when == "after" else [3, 6]]
        assert_equal(tmp_path / "whole", tmp_path / when)


def signalled(world: World, values: dict[str, Any]) -> str:
    """A signal to the last rank while it embeds."""
    load_plugins([PLUGIN])
    call = SampleEmbedder.__call__

    def interrupted(*arguments: Any) -> Any:
        if world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(*arguments)

    with patch.object(SampleEmbedder, "__call__", interrupted), pytest.raises(RunStopped) as stopped:
        run(world, values)
    return str(stopped.value)


def test_a_signal_within_an_episode_stops_the_run_after_the_next_step(world_folder: Path, tmp_path: Path) -> None:
    values = with_episodes(world_folder, tmp_path / "parts")
    assert on_ranks(signalled, 2, values) == ["stopped at step 4, saved; the same command resumes"] * 2
    whole = with_episodes(world_folder, tmp_path / "whole")
    assert on_ranks(run_all, 2, [(values, None), (whole, None)])[0] == [[6], [3, 6]]
    assert_equal(tmp_path / "whole", tmp_path / "parts")


def test_a_later_stage_goes_on_with_the_last_episode_and_may_have_its_own(world_folder: Path, tmp_path: Path) -> None:
    stages: list[dict[str, Any]] = [
        {"name": "first", "steps": 4},
        {"name": "plain", "steps": 2, "set": {"episodes": None}},
        {"name": "early", "steps": 3, "set": {"episodes": {"every": 0.5, "start": 0}}},
    ]
    whole, parts = (with_episodes(world_folder, tmp_path / name, stages=stages) for name in ("whole", "parts"))
    parts |= {"checkpoint": {"every": 1}}
    for values in (whole, parts):
        del values["steps"]
    jobs: list[Job] = [(whole, None), (parts, 5), (parts, None)]
    assert on_ranks(run_all, 1, jobs) == [[[3, 6, 8], [3], [6, 8]]]
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert json.loads((tmp_path / "whole/checkpoints/step_00000009/state.json").read_text())["episode"] == 8


def test_an_episode_alone_changes_no_batch_and_no_weight(world_folder: Path, tmp_path: Path) -> None:
    values = {"against": {}, "selection": {"name": "random", "filter_ratio": 0.5}}
    unused = with_episodes(world_folder, tmp_path / "with", **values)
    plain = with_episodes(world_folder, tmp_path / "without", **values, episodes=None, memories={})
    on_ranks(run_all, 1, [(unused, None), (plain, None)])
    assert_same_run(tmp_path / "with", tmp_path / "without")


def test_pruning_keeps_what_a_checkpoint_may_name(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        (tmp_path / f"step_{step:08d}").mkdir()
    prune_episodes(tmp_path, 40, [25, 40])
    assert sorted(protocol.step_of(path) for path in tmp_path.iterdir()) == [10, 20, 30, 40]
    prune_episodes(tmp_path, 40, [])
    assert sorted(protocol.step_of(path) for path in tmp_path.iterdir()) == [40]


def test_an_episode_that_is_lost_or_damaged_is_an_error_of_one_line(world_folder: Path, tmp_path: Path) -> None:
    values = with_episodes(world_folder, tmp_path, checkpoint={"every": 1})
    on_ranks(run_all, 1, [(values, 4)])
    (path,) = (tmp_path / EPISODES / "step_00000003").glob("memories/means/pair/*/*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RankFailed, match=r"step_00000003, which cannot be used \(memories/means/pair.*Restore it"):
        on_ranks(run_all, 1, [(values, None)])

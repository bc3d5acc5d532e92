"""What a run remembers of its data: where each source stands, the plan it was made under, and when that changed."""

import json
import shutil
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tercet.distributed import World
from tercet.testing import RankFailed, on_ranks
from tercet.training.checkpoints.commit import newest
from tercet.training.checkpoints.reader import CHECKPOINTS
from tests.training.tiny import losses, recipe, run, saved


def run_some(world: World, values: dict[str, Any], stop: int | None) -> str:
    """What the run printed on stderr."""
    with redirect_stderr(StringIO()) as shown:
        run(world, values, stop)
    return shown.getvalue()


def mixed(folder: Path, out: Path, weight: float = 1.0, **data: Any) -> dict[str, Any]:
    """Scenes and combinations in one run; the combinations without their sounds."""
    train = {
        "scenes": {"source": str(folder / "train")},
        "combinations": {"source": str(folder / "combinations"), "weight": weight, "fields": ["image", "text"]},
    }
    shared = {"train": train, "crop": None, "worker": "thread"}
    return recipe(folder, out, data=shared | data, checkpoint={"every": 5}, steps=12)


def state(out: Path) -> dict[str, Any]:
    path = newest(out / CHECKPOINTS).path
    assert path is not None
    values: dict[str, Any] = json.loads((path / "state.json").read_text())
    return values


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def history(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "plans" / "history.jsonl").read_text().splitlines()]


def test_each_source_resumes_after_its_last_sample(world_folder: Path, tmp_path: Path) -> None:
    """At another number of ranks, too; weights of 3 : 1 are 12 and 4 of a batch of 16."""
    whole, parts = (mixed(world_folder, tmp_path / name, weight=1 / 3) for name in ("whole", "parts"))
    on_ranks(run_some, 1, whole, None)
    on_ranks(run_some, 2, parts, 7)
    on_ranks(run_some, 1, parts, None)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    assert state(tmp_path / "parts")["cursors"] == {"scenes": 144, "combinations": 48}
    assert metrics(tmp_path / "whole")[4]["samples/scenes"] == 60
    assert metrics(tmp_path / "whole")[4]["samples/combinations"] == 20
    assert [line["step"] for line in history(tmp_path / "parts")] == [0]


def test_new_weights_take_effect_at_a_recorded_step(world_folder: Path, tmp_path: Path) -> None:
    on_ranks(run_some, 1, mixed(world_folder, tmp_path / "run", weight=1.0), 5)
    before = state(tmp_path / "run")
    anew = mixed(world_folder, tmp_path / "run", weight=7.0, cache_gb=5, missing="skip")  # which change no sample
    on_ranks(run_some, 1, anew, None)
    after = state(tmp_path / "run")
    assert before["cursors"] == {"scenes": 40, "combinations": 40}
    assert after["cursors"] == {"scenes": 40 + 7 * 2, "combinations": 40 + 7 * 14}
    noted = history(tmp_path / "run")
    assert [line["step"] for line in noted] == [0, 5]
    assert [line["plan"] for line in noted] == [before["plan"], after["plan"]]
    for digest in (before["plan"], after["plan"]):
        assert (tmp_path / "run" / "plans" / f"{digest}.json").is_file()


def test_data_that_end_before_the_last_step_end_the_run_with_an_error(world_folder: Path, tmp_path: Path) -> None:
    """96 scenes are six batches of 16; to take as many steps is no mistake."""
    train = {"scenes": {"source": str(world_folder / "train"), "repeat": False}}
    values = recipe(world_folder, tmp_path / "run", data={"train": train, "crop": None, "worker": "thread"})
    on_ranks(run_some, 1, values | {"steps": 6, "out": str(tmp_path / "six")}, None)
    assert len(losses(tmp_path / "six")) == 6
    with pytest.raises(RankFailed, match=r"the data ended after step \d+ of .*: lower `steps`, or set `repeat: true`"):
        on_ranks(run_some, 1, values | {"steps": 7}, None)


def test_a_stage_may_use_other_data(world_folder: Path, tmp_path: Path) -> None:
    """They begin at their first sample, and a run that was stopped among them goes on there."""
    others = {"name": "others", "steps": 4, "set": {"data.train": str(world_folder / "combinations")}}
    whole, parts = (
        recipe(world_folder, tmp_path / name, stages=[{"name": "scenes", "steps": 3}, others], checkpoint={"every": 2})
        for name in ("whole", "parts")
    )
    del whole["steps"], parts["steps"]
    for values, stop in ((whole, None), (parts, 5), (parts, None)):
        on_ranks(run_some, 1, values, stop)
    assert state(tmp_path / "whole")["cursors"] == {"train": 4 * 16}
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert [line["step"] for line in history(tmp_path / "parts")] == [0, 3]


def test_a_run_resumes_with_moved_shards_and_refuses_other_shards(world_folder: Path, tmp_path: Path) -> None:
    shards = shutil.copytree(world_folder / "train", tmp_path / "a" / "train")
    values = recipe(shards.parent, tmp_path / "run", checkpoint={"every": 5}, steps=8)
    on_ranks(run_some, 1, values, 5)
    moved = shutil.move(shards, tmp_path / "b")
    values["data"] = values["data"] | {"train": str(moved)}
    (tmp_path / "b" / "000003.tar").rename(tmp_path / "last.tar")
    with pytest.raises(RankFailed, match=r"data of `train` changed .*96 samples then, 72 now"):
        on_ranks(run_some, 1, values, None)
    (tmp_path / "last.tar").rename(tmp_path / "b" / "000003.tar")
    on_ranks(run_some, 1, values, None)
    assert state(tmp_path / "run")["cursors"] == {"train": 128}


def test_a_stream_trains_on_two_ranks_and_resumes_at_a_shard(world_folder: Path, tmp_path: Path) -> None:
    data = {"train": str(world_folder / "train"), "crop": None, "mode": "stream", "worker": "thread", "window": 8}
    values = recipe(world_folder, tmp_path / "run", data=data, checkpoint={"every": 5}, steps=14)
    on_ranks(run_some, 2, values, 10)
    place = state(tmp_path / "run")["cursors"]["train"]
    assert 0 < place <= 160 // 24
    (shown,) = on_ranks(run_some, 1, values, None)
    assert f"resumes at shard {place} of its sequence" in shown
    assert len(losses(tmp_path / "run")) == 14
    assert saved(tmp_path / "run")


def test_worker_processes_and_threads_give_the_same_losses(world_folder: Path, tmp_path: Path) -> None:
    for worker in ("process", "thread"):
        data = {"train": str(world_folder / "train"), "worker": worker, "augment": {"audio": {"time_masks": 2}}}
        on_ranks(run_some, 1, recipe(world_folder, tmp_path / worker, data=data, steps=4), None)
    assert losses(tmp_path / "process") == losses(tmp_path / "thread")


def test_gradient_caching_splits_masks_together_with_their_rows(world_folder: Path, tmp_path: Path) -> None:
    """Plain steps against gradient-cached ones, whose chunks divide neither the sounds nor the captions."""
    data = {"train": str(world_folder / "train"), "worker": "thread", "augment": {"audio": {"time_masks": 4}}}
    for rows in (None, 5):
        values = recipe(world_folder, tmp_path / str(rows), data=data, steps=4, micro_batch=rows)
        on_ranks(run_some, 1, values, None)
    assert losses(tmp_path / "5") == pytest.approx(losses(tmp_path / "None"), rel=1e-4)

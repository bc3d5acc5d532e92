"""A run may be killed at any of its writes: the same command then goes on as if nothing had happened."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tercet.distributed import World
from tercet.testing import RankFailed, on_ranks
from tests.training.tiny import losses, recipe, run, saved

STEPS = 6


def killed_at(world: World, values: dict[str, Any], count: int) -> None:
    """Runs until it opens the file `count` for writing, or renames it; then this process is gone, as by SIGKILL.

    A file that is opened to be written anew is empty by then.
    """
    left = count

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        path, mode = str(arguments[0]) if arguments else "", arguments[1] if event == "open" else None
        written = event == "os.rename" or (isinstance(mode, str) and mode[0] in "wax")
        if left and written and path.startswith(values["out"]):
            left -= 1
            if not left:
                if mode and mode[0] == "w":
                    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
                os._exit(9)

    sys.addaudithook(watch)
    run(world, values)


def was_killed(values: dict[str, Any], count: int) -> bool:
    """Whether it was killed before its end. Each of its lists of lines then ends in half a line."""
    try:
        on_ranks(killed_at, 1, values, count)
    except RankFailed as failed:
        if "died without" not in str(failed):
            raise
        for path in Path(values["out"]).rglob("*.jsonl"):
            with path.open("a", encoding="utf-8") as lines:
                lines.write('{"step": 1')
        return True
    return False


def evaluated(out: Path) -> Any:
    return json.loads((out / "eval.json").read_text(encoding="utf-8"))


@pytest.mark.long
def test_a_run_killed_at_each_of_its_writes_equals_an_uninterrupted_one(world_folder: Path, tmp_path: Path) -> None:
    changes = {"steps": STEPS, "checkpoint": {"every": 2}, "eval": {"every": 2, "before": True}}
    data = {"train": str(world_folder / "train"), "val": str(world_folder / "val"), "crop": None, "worker": "thread"}
    straight, killed = (recipe(world_folder, tmp_path / name, data=data, **changes) for name in ("straight", "killed"))
    on_ranks(run, 1, straight)
    checkpoints = tmp_path / "killed" / "checkpoints"
    first = next(count for count in range(1, 100) if was_killed(killed, count) and any(checkpoints.glob("step_*[0-9]")))
    count = next(count for count in range(1, 100) if not was_killed(killed, count))  # a start with a checkpoint
    assert min(first, count) > 5, "there were fewer writes than a run has, so they were not seen"
    whole, parts = saved(tmp_path / "straight"), saved(tmp_path / "killed")
    assert whole.keys() == parts.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert losses(tmp_path / "straight") == losses(tmp_path / "killed")
    assert len(losses(tmp_path / "straight")) == STEPS
    assert evaluated(tmp_path / "straight") == evaluated(tmp_path / "killed")
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("straight", "killed")]
    assert names[0] == names[1]

"""A signal stops a run after its step, on all ranks, with a checkpoint; resumed, it is the run that was not stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from tercet.distributed import World
from tercet.errors import RunStopped
from tercet.testing import on_ranks
from tercet.training.checkpoints.commit import newest
from tercet.training.checkpoints.reader import CHECKPOINTS
from tercet.training.loop.interruption import ECHO, STOPPING
from tercet.training.loop.trainer import Trainer
from tests.training.tiny import losses, recipe, run, saved

BIN = Path(sys.executable).parent
Signals = dict[tuple[int, int], Sequence[signal.Signals]]  # by rank and step


def stopped(world: World, values: dict[str, Any], signals: Signals) -> tuple[int, str] | None:
    """The signal and the message that the run stopped with."""
    record = Trainer._record

    def signalled(self: Trainer, stage: Any, progress: Any, *rest: Any) -> Any:
        for number in signals.get((world.rank, progress.step), ()):
            os.kill(os.getpid(), number)
        return record(self, stage, progress, *rest)

    with patch.object(Trainer, "_record", signalled):
        try:
            run(world, values)
        except RunStopped as end:
            return end.signal, str(end)
    return None


def stopped_again_and_again(world: World, whole: dict[str, Any], parts: dict[str, Any]) -> list[tuple[int, str] | None]:
    run(world, whole)
    launcher = [signal.SIGINT, signal.SIGTERM, signal.SIGINT]  # passes its own signals on after the terminal's
    return [stopped(world, parts, signals) for signals in ({(1, 5): [signal.SIGTERM]}, {(0, 9): launcher}, {})]


def test_a_signal_to_one_rank_stops_all_ranks_at_the_same_step_and_the_run_resumes_bit_equal(
    world_folder: Path, tmp_path: Path
) -> None:
    whole, parts = (recipe(world_folder, tmp_path / name, steps=12) for name in ("whole", "parts"))
    ends = on_ranks(stopped_again_and_again, 2, whole, parts)
    assert ends[0] == ends[1]
    assert ends[0] == [
        (signal.SIGTERM, "stopped at step 5, saved; the same command resumes"),
        (signal.SIGINT, "stopped at step 9, saved; the same command resumes"),
        None,
    ]
    one, other = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def begun(command: list[str], folder: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def wait_for_steps(process: "subprocess.Popen[str]", out: Path, steps: int) -> None:
    lines = out / "metrics.jsonl"
    while not lines.exists() or lines.read_text().count("\n") < steps:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture
def folder(world_folder: Path, tmp_path: Path) -> Path:
    """A recipe of more steps than any test waits for, decoded by worker processes."""
    data = {"train": str(world_folder / "train"), "crop": None, "worker": "process", "workers": 2}
    values = recipe(world_folder, Path("run"), steps=1_000_000, data=data)
    (tmp_path / "long.yaml").write_text(json.dumps(values))
    return tmp_path


def test_ctrl_c_and_sigterm_to_the_whole_process_group_leave_a_checkpoint(folder: Path) -> None:
    """A terminal signals every process of the group at once, and so do clusters."""
    steps = 0
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = begun([sys.executable, "-m", "tercet", "train", "long.yaml"], folder)
        wait_for_steps(process, folder / "run", steps + 2)
        os.killpg(process.pid, number)
        _, err = process.communicate()
        path = newest(folder / "run" / CHECKPOINTS).path
        assert path is not None, err
        steps = json.loads((path / "state.json").read_text())["step"]
        assert (process.returncode, len(losses(folder / "run"))) == (code, steps), err
        assert err.splitlines()[-2:] == [
            STOPPING.strip(),
            f"tercet: stopped at step {steps:,}, saved; the same command resumes",
        ]
        assert "leaked" not in err


def test_sigterm_to_torchrun_leaves_a_checkpoint(folder: Path) -> None:
    command = [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "tercet", "train", "long.yaml"]
    process = begun(command, folder)
    wait_for_steps(process, folder / "run", 2)
    process.terminate()
    _, err = process.communicate()
    steps = len(losses(folder / "run"))
    assert err.count(f"tercet: stopped at step {steps:,}, saved; the same command resumes") == 1, err
    assert newest(folder / "run" / CHECKPOINTS).path == folder / "run" / CHECKPOINTS / f"step_{steps:08d}"


HANGS = """
import sys, time
from unittest.mock import patch
from tercet.command import main
from tercet.training.loop.interruption import ECHO, STOPPING
from tercet.training.loop.trainer import Trainer
record = Trainer._record
def hanging(self, stage, progress, *rest):
    while progress.step == 3:
        open("hanging", "w").close()
        time.sleep(0.1)
    return record(self, stage, progress, *rest)
with patch.object(Trainer, "_record", hanging):
    main(["train", "long.yaml", "checkpoint.every=1"])
"""


@pytest.mark.long
def test_a_second_signal_ends_a_run_that_hangs(folder: Path) -> None:
    process = begun([sys.executable, "-c", HANGS], folder)
    while not (folder / "hanging").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while process.stderr.readline() != STOPPING:
        assert process.poll() is None
    time.sleep(ECHO + 0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert newest(folder / "run" / CHECKPOINTS).path == folder / "run" / CHECKPOINTS / "step_00000002"

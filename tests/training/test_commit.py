"""The commit protocol: whenever a process dies, the checkpoint before or the one after can be resumed, whole."""

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.distributed import World
from tercet.errors import UserError
from tercet.training.checkpoints import commit as protocol
from tercet.training.checkpoints.commit import commit, committed, flaw, newest, prune
from tercet.whole_file import write_whole
from tests.training.tiny import recipe

FORK = multiprocessing.get_context("fork")


def save(parent: Path, step: int) -> Path:
    def write(folder: Path) -> None:
        write_whole(folder / "numbers", f"{step}\n" * 1000)
        write_whole(folder / "state", "{}")

    return commit(parent, step, write, {"step": step}, World())


def holds(path: Path, step: int) -> bool:
    return (path / "numbers").read_bytes() == f"{step}\n".encode() * 1000


def test_a_committed_checkpoint_verifies_and_describes_its_content(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    assert path.name == "step_00000007"
    assert flaw(path) is None
    assert newest(tmp_path).path == path
    manifest = protocol.read_manifest(path)
    assert manifest["step"] == 7
    assert manifest["files"]["state"] == {"size": 2, "sha256": protocol.hashlib.sha256(b"{}").hexdigest()}


def flip(path: Path) -> None:
    data = bytearray((path / "numbers").read_bytes())
    data[500] ^= 1
    (path / "numbers").write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "numbers does not match its manifest": flip,
    "numbers is missing": lambda path: (path / "numbers").unlink(),
    "state does not match its manifest": lambda path: os.truncate(path / "state", 1),
    "its manifest cannot be read": lambda path: (path / "manifest.json").write_text('{"files": '),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_with_its_name_and_the_reason(tmp_path: Path, reason: str) -> None:
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    DAMAGE[reason](newer)
    found = newest(tmp_path)
    assert found.path == older
    assert found.damaged == (f"step_00000002 ({reason})",)


def test_pruning_keeps_the_newest_and_saving_again_renames_the_damaged_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save(tmp_path, step)
    prune(tmp_path, 2)
    assert [path.name for path in committed(tmp_path)] == ["step_00000010", "step_00000003"]
    flip(tmp_path / "step_00000010")
    save(tmp_path, 10)
    assert holds(tmp_path / "step_00000010", 10)
    assert not holds(tmp_path / "step_00000010.aside1", 10)
    assert newest(tmp_path).damaged == ()


def test_a_failed_write_leaves_the_last_checkpoint_unchanged(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def write(folder: Path) -> None:
        (folder / "numbers").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"rank 0: .*No space left on device.*The last one is intact"):
        commit(tmp_path, 2, write, {}, World())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000001"]


STAGES = ["write_json", "fingerprint", "sync", "rename"]


def die_at(parent: Path, stage: str, call: int) -> None:
    """Saves step 2, but the process is gone at the given call of a function of the protocol."""
    calls = 0
    module = os if stage == "rename" else protocol
    original = getattr(module, stage)

    def last_words(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            os._exit(9)
        return original(*arguments)

    setattr(module, stage, last_words)
    save(parent, 2)
    os._exit(0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_hard_exit_at_any_moment_leaves_the_old_or_the_new_checkpoint(tmp_path: Path, stage: str) -> None:
    endings = []
    for call in range(1, 6):
        parent = tmp_path / str(call)
        parent.mkdir()
        save(parent, 1)
        process = FORK.Process(target=die_at, args=(parent, stage, call))
        process.start()
        process.join()
        endings.append(process.exitcode)
        found = newest(parent)
        assert found.path is not None
        assert holds(found.path, int(found.path.name[-1]))
        assert found.damaged == ()
        save(parent, 3)  # the wreck is in nobody's way
        assert newest(parent).path == parent / "step_00000003"
    assert 9 in endings
    assert endings[-1] == 0, "the last call lies beyond the protocol: all of its stages were tried"


def save_for_ever(parent: Path) -> None:
    step = 2
    while True:
        save(parent, step)
        prune(parent, 2)
        step += 1


def test_a_valid_checkpoint_remains_after_random_kills(tmp_path: Path) -> None:
    save(tmp_path, 1)
    dice = random.Random(0)
    for _ in range(50):
        process = FORK.Process(target=save_for_ever, args=(tmp_path,))
        process.start()
        time.sleep(dice.uniform(0.001, 0.03))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        found = newest(tmp_path)
        assert found.path is not None
        assert holds(found.path, int(found.path.name.removeprefix("step_")))


LIMITED = """
import resource, sys
from tercet.command import main
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
sys.exit(main(["train", sys.argv[1]]))
"""


def test_a_full_disk_ends_a_run_with_an_error_of_one_line(world_folder: Path, tmp_path: Path) -> None:
    """A limit on the size of files fails where a full disk does: in the middle of a file of tensors."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(recipe(world_folder, tmp_path / "run", steps=1)))
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "tiny.yaml")]
    environment = os.environ | {"DS_ACCELERATOR": "cpu"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 2, ended.stderr
    message = r"tercet: cannot write a checkpoint \(rank 0: .*File too large.*\)\. The last one is intact"
    assert re.search(message, ended.stderr)
    assert "Traceback" not in ended.stderr
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []

"""Packing that is killed resumes, and writes the same bytes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import numpy as np
import psutil
import pytest

from tercet.command import main
from tercet.data_pipelines.pack.journal import Journal, Packed
from tercet.data_pipelines.shards.write import SampleFiles, write_shard
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.spawned import spawned
from tercet.errors import UserError

ROWS, SHARDS = 120, 15


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, picture: Callable[..., bytes]) -> Path:
    """A table of pictures, every ninth of which is broken."""
    folder = tmp_path_factory.mktemp("source")
    for i in range(ROWS):
        data = picture(i, (96, 64), "jpeg")
        (folder / f"{i}.jpg").write_bytes(data if i % 9 else data[: len(data) // 2])
    (folder / "m.csv").write_text("image,caption\n" + "".join(f"{i}.jpg,number {i}\n" for i in range(ROWS)))
    return folder / "m.csv"


def words(table: Path, out: Path, workers: int = 1) -> list[str]:
    options = ["--size", "32", "--shard-samples", "8", "--max-bad", "1", "--workers", str(workers), "--json"]
    return ["data", "pack", str(table), "--out", str(out), *options]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def straight(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that an uninterrupted run writes."""
    out = tmp_path_factory.mktemp("straight") / "out"
    assert main(words(table, out)) == 0
    return everything(out)


def test_packing_killed_at_random_points_resumes_to_the_same_bytes(
    table: Path, straight: dict[str, bytes], tmp_path: Path
) -> None:
    """Each kill is within a random shard, or at once if that shard is complete."""
    random = np.random.default_rng(0)
    interrupted = 0
    for round in range(6):
        out = tmp_path / str(round)
        (out / ".index").mkdir(parents=True)
        (out / ".index" / f".000002.tar.safetensors.{uuid4().hex}").touch()
        for shard in random.integers(0, SHARDS, 5):
            process = get_context("fork").Process(target=main, args=(words(table, out),))
            process.start()
            while process.is_alive() and not (out / f"{shard:06d}.tar").exists():
                time.sleep(0.001)
            process.join(random.uniform(0, 0.03))
            process.kill()
            process.join()
            interrupted += not (out / "manifest.json").exists()
        assert main(words(table, out)) == 0
        assert everything(out) == straight
    assert interrupted, "nothing was interrupted, so nothing was tested"


def test_workers_end_with_the_main_process(table: Path, straight: dict[str, bytes], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tercet", *words(table, tmp_path / "out", workers=2)]
    packing = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    partial = tmp_path / "out" / "manifest.json.partial"
    while packing.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.005)
    workers = psutil.Process(packing.pid).children(recursive=True)
    packing.send_signal(signal.SIGKILL)
    packing.wait()
    assert psutil.wait_procs(workers, timeout=300)[1] == []
    assert main(words(table, tmp_path / "out")) == 0
    assert everything(tmp_path / "out") == straight


def test_a_dead_worker_is_reported() -> None:
    with pytest.raises(UserError, match=r"that packs died, .*: mend it"), spawned(2, "packs", "mend it") as pool:
        list(in_order(os._exit, [1, 1, 1], pool, ahead=2))


def interrupted(*rest: object) -> None:
    raise KeyboardInterrupt


def test_finished_shards_are_not_written_again_and_missing_ones_are(
    table: Path, straight: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("tercet.data_pipelines.pack.pack.finish", interrupted)
        assert main(words(table, out)) == 130
    (out / "000003.tar").unlink()
    (out / "000005.tar").write_bytes((out / "000005.tar").read_bytes()[:-512])
    untouched = (out / "000004.tar").stat().st_mtime_ns
    written: list[str] = []

    def write(path: Path, samples: Iterable[SampleFiles]) -> None:
        written.append(path.name)
        write_shard(path, samples)

    monkeypatch.setattr("tercet.data_pipelines.pack.shard.write_shard", write)
    assert main(words(table, out)) == 0
    assert written == ["000003.tar", "000005.tar"]
    assert (out / "000004.tar").stat().st_mtime_ns == untouched
    assert everything(out) == straight


def test_a_full_disk_is_reported_and_packing_resumes_when_there_is_space(
    table: Path,
    straight: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def written(path: Path, samples: Iterable[SampleFiles]) -> None:
        if path.name == "000003.tar":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_shard(path, samples)

    with monkeypatch.context() as full:
        full.setattr("tercet.data_pipelines.pack.shard.write_shard", written)
        assert main(words(table, tmp_path / "out")) == 2
    assert "No space left on device; free some space and run the same command" in capsys.readouterr().err
    assert main(words(table, tmp_path / "out")) == 0
    assert everything(tmp_path / "out") == straight


def test_an_incomplete_line_of_the_journal_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    records = [Packed(shard, f"{shard}.tar", 0, 0, "", ()) for shard in range(3)]
    journal = Journal(path)
    for record in records:
        journal.append(record)
    path.write_bytes(path.read_bytes()[:-5])
    again = Journal(path)
    assert list(again.packed.values()) == records[:2]
    again.append(records[2])
    assert list(Journal(path).packed.values()) == records


def test_a_second_command_in_the_same_folder_is_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert main(words(table, tmp_path)) == 2
    assert "another process packs into" in capsys.readouterr().err
    os.close(folder)
    assert main(words(table, tmp_path)) == 0

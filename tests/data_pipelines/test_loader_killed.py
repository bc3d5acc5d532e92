"""Real kills: of readers at random points, resumed by other numbers of readers, and of a process that decodes."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from tercet.data_pipelines.batches.loader import Loader
from tercet.data_pipelines.config import DataConfig
from tercet.data_pipelines.sample import AudioIntake, Batch, ImageIntake, Intake, TextIntake
from tercet.data_pipelines.shards.read import open_shards
from tercet.errors import RankError
from tercet.processes import server

STEPS = 30


def tokenize(captions: list[str]) -> torch.Tensor:
    return torch.tensor([list(caption.encode().ljust(12)[:12]) for caption in captions])


INTAKES: dict[str, Intake] = {
    "image": ImageIntake((16, 16)),
    "audio": AudioIntake(8000, 0.05),
    "text": TextIntake(tokenize),
}
Line = dict[str, object]


@pytest.fixture
def folder(pack: Callable[..., Path], picture: Callable[..., bytes], sound: Callable[..., bytes]) -> Path:
    dice = np.random.default_rng(0)
    for shard in range(3):
        samples = [
            {
                "__key__": f"{shard}-{i}",
                "png": picture(i, (40, 30)),
                "flac": sound(dice.uniform(-0.5, 0.5, 900), 8000),
                "txt": f"one {i}\ntwo {i}" if i % 8 else "\n",  # every eighth has a caption without a word
            }
            for i in range(17 + shard)
        ]
        path = pack(f"{shard}.tar", samples)
    return path.parent


def loader(folder: Path, workers: int, start: Mapping[str, int], rank: int = 0, world: int = 1) -> Loader:
    data = DataConfig(train=str(folder), crop=(0.4, 1.0), max_bad=1.0, workers=workers, worker="process", streams=8)
    sources = {"train": open_shards(str(folder))}
    return Loader(data, sources, INTAKES, 8, seed=3, start=start, rank=rank, world=world)


def written(batch: Batch) -> Line:
    """Where the data stand after the batch, and the bytes of each of its samples."""
    digests = []
    for i in range(len(batch)):
        state = sha256(np.array([int(batch.ids[i]), int(batch.groups[i])]).tobytes())
        for _, field in batch:
            state.update(field.values[field.item == i].contiguous().numpy().tobytes())
        digests.append(state.hexdigest())
    return {"cursors": batch.cursors, "digests": digests}


def read(folder: Path, out: Path, workers: int, start: Mapping[str, int], rank: int, world: int, steps: int) -> None:
    with out.open("w") as lines:
        for batch in islice(loader(folder, workers, start, rank, world), steps):
            print(json.dumps(written(batch)), file=lines, flush=True)
            time.sleep(0.01)  # as a step takes its time


def lines(path: Path) -> list[Line]:
    whole = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in whole if line.endswith("\n")]


def test_killed_runs_resume_with_the_same_batches_on_any_number_of_ranks(folder: Path, tmp_path: Path) -> None:
    straight = [written(batch) for batch in islice(loader(folder, 0, {}), STEPS)]
    dice = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    done: list[Line] = []
    for attempt in range(3 * STEPS):
        world = int(dice.choice([1, 2, 4]))
        outs = [tmp_path / f"{attempt}-{rank}.jsonl" for rank in range(world)]
        start = dict(done[-1]["cursors"]) if done else {}  # type: ignore[call-overload]
        readers = [
            server().Process(target=read, args=(folder, out, rank % 2, start, rank, world, STEPS - len(done)))
            for rank, out in enumerate(outs)
        ]
        for reader in readers:
            reader.start()
        while any(reader.is_alive() for reader in readers) and not all(map(lines, outs)):
            time.sleep(0.02)
        time.sleep(dice.uniform(0, 0.25))
        for reader in readers:
            reader.kill()
            reader.join()
        for parts in zip(*map(lines, outs), strict=False):  # as far as the slowest of the ranks came
            digests = list(chain.from_iterable(part["digests"] for part in parts))  # type: ignore[misc]
            done.append({"cursors": parts[0]["cursors"], "digests": digests})
        if len(done) == STEPS:
            break
    assert attempt > 0, "nothing was interrupted, so nothing was tested"
    assert done == straight


def test_a_killed_worker_process_is_an_error_and_not_a_hang(folder: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    stream = iter(loader(folder, 2, {}))
    next(stream)
    hired = [one for one in psutil.Process().children(recursive=True) if one.pid not in before and not one.children()]
    worker = next(one for one in hired if "resource_tracker" not in " ".join(one.cmdline()))
    worker.send_signal(signal.SIGKILL)
    with pytest.raises(RankError, match="a process that decodes data died"):
        list(islice(stream, 1000))

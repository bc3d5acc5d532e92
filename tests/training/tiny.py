"""A run that takes milliseconds a step, and ways to run, interrupt and read it."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors import safe_open
from torch import Tensor

from tercet.distributed import World
from tercet.training.checkpoints.commit import newest
from tercet.training.checkpoints.reader import CHECKPOINTS, SHARDED
from tercet.training.config import RunConfig
from tercet.training.folder import open_folder
from tercet.training.loop.trainer import Trainer
from tercet.training.runner import Runner

TOWER = {"width": 32, "heads": 2}
MODEL = {
    "dim": 16,
    "image": {"encoder": "small:image", "size": 32, "options": TOWER},
    "audio": {"encoder": "small:audio", "features": "small16k64", "seconds": 0.5, "options": TOWER},
    "text": {"encoder": "small:text", "options": TOWER},
}


def recipe(shards: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """A plain mapping, so that it travels to other processes."""
    return {
        "name": "tiny", "out": str(out), "model": MODEL,
        "data": {"train": str(shards / "train"), "crop": None, "worker": "thread"},
        "pairs": {"image-text": 1.0, "audio-text": 1.0, "image-audio": 0.5}, "batch_size": 16, "steps": 20,
        "precision": "fp32", "optimizer": {"lr": 1e-3}, "schedule": {"warmup": 3}, "log": {"to": []}, "ema": 0.9,
    } | changes  # fmt: skip


class Interrupted(BaseException):
    """Stands for whatever ends a run between two steps."""


def run(world: World, values: dict[str, Any], stop: int | None = None) -> None:
    """Runs to the end, or is torn down on all ranks when step `stop` has been taken."""
    torch.manual_seed(world.rank + 17)  # nothing may depend on where the global generator stands
    record = Trainer._record

    def interrupt(self: Trainer, stage: Any, progress: Any, *rest: Any) -> Any:
        if progress.step - 1 == stop:
            raise Interrupted
        return record(self, stage, progress, *rest)

    config = RunConfig.model_validate(values)
    with patch.object(Trainer, "_record", interrupt), open_folder(config, world) as folder:
        try:
            Runner(config, folder, world).finish()
        except Interrupted:
            assert stop is not None


def saved(out: Path) -> dict[str, Tensor]:
    """All tensors of the newest checkpoint that verifies; a rank's rows of a sharded one end in `@RANK`."""
    path = newest(out / CHECKPOINTS).path
    assert path is not None
    return saved_in(path)


def saved_in(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for rank, part in enumerate(sorted(path.glob("*.safetensors"))):
        with safe_open(part, framework="pt") as file:
            sharded = json.loads(file.metadata()[SHARDED])
            for name in file.keys():  # noqa: SIM118  # not a mapping
                found[f"{name}@{rank}" if name in sharded else name] = file.get_tensor(name)
    return found


def assert_same_run(one: Path, other: Path) -> dict[str, Tensor]:
    """Both runs have the same losses, and the same bits in their newest checkpoints. Returns the tensors of these."""
    first, second = saved(one), saved(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert losses(one) == losses(other)
    return first


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]

"""A run that takes milliseconds a step, and ways to run, interrupt and read it."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch import Tensor

from tercet.distributed import World
from tercet.training.checkpoint_reader import CHECKPOINTS
from tercet.training.commit import newest
from tercet.training.config import RunConfig
from tercet.training.folder import open_folder
from tercet.training.runner import Runner
from tercet.training.trainer import Trainer

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
    """All tensors of the newest checkpoint that verifies."""
    path = newest(out / CHECKPOINTS).path
    assert path is not None
    return {name: tensor for part in path.glob("*.safetensors") for name, tensor in load_file(part).items()}


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]

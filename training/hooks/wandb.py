"""Logs to Weights & Biases: train with `log.to=[console,wandb]`. A resumed run continues the same W&B run."""

from hashlib import blake2b
from importlib.util import find_spec
from typing import Any

from tercet.errors import UserError
from tercet.training.hooks.hook import RunInfo, StepRecord


class WeightsAndBiases:
    """Logs to one W&B run for each run folder, once in `every` steps."""

    def __init__(self, every: int) -> None:
        if find_spec("wandb") is None:
            raise UserError("log.to: wandb is not installed; pip install 'tercet[wandb]'")
        self.every = every
        self._run: Any = None

    def start(self, run: RunInfo) -> None:
        import wandb

        identity = blake2b(str(run.folder.resolve()).encode(), digest_size=6).hexdigest()
        self._run = wandb.init(
            project="tercet", name=run.name, id=identity, resume="allow", dir=str(run.folder), config=dict(run.config)
        )

    def step(self, record: StepRecord) -> None:
        if record.step % self.every == 0 or record.step == record.steps:
            self._run.log(record.flat(), step=record.step)

    def stop(self) -> None:
        self._run.finish()

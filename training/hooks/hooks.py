"""All hooks of a run. If a hook raises, tercet removes it with a warning, and the run continues."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from tercet.training.hooks.config import LogConfig, Logger
from tercet.training.hooks.console import Console
from tercet.training.hooks.hook import Hook, RunInfo, StepRecord
from tercet.training.hooks.metrics_file import MetricsFile
from tercet.training.hooks.tensorboard import TensorBoard
from tercet.training.hooks.wandb import WeightsAndBiases

LOGGERS: dict[Logger, Callable[[int], Hook]] = {  # the argument is the number of steps between two lines
    "console": Console,
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


class Hooks:
    """Passes every call on to each hook."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = list(hooks)

    def start(self, run: RunInfo) -> None:
        self._call(lambda hook: hook.start(run))

    def step(self, record: StepRecord) -> None:
        self._call(lambda hook: hook.step(record))

    def stop(self) -> None:
        self._call(lambda hook: hook.stop())

    def _call(self, method: Callable[[Hook], None]) -> None:
        for hook in tuple(self._hooks):
            try:
                method(hook)
            except Exception as error:  # a full disk or a lost connection must not end the run
                self._hooks.remove(hook)
                warnings.warn(f"{type(hook).__name__} failed and logs no more: {error!r}", stacklevel=2)


def open_hooks(config: LogConfig, folder: Path) -> Hooks:
    """metrics.jsonl and the loggers that the recipe names. Raises `UserError` for a logger that is not installed."""
    return Hooks([MetricsFile(folder / "metrics.jsonl"), *(LOGGERS[name](config.every) for name in config.to)])

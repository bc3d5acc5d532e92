"""All hooks of a run as one, chosen by the recipe. A hook that raises is dropped with one warning; the run goes on."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from tercet.training.config import LogConfig, Logger
from tercet.training.hooks.console import Console
from tercet.training.hooks.hook import Hook, RunInfo, StepRecord
from tercet.training.hooks.metrics_file import MetricsFile
from tercet.training.hooks.tensorboard import TensorBoard
from tercet.training.hooks.wandb import WeightsAndBiases

LOGGERS: dict[Logger, Callable[[int], Hook]] = {  # made with the steps between two of their lines
    "console": Console,
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


class Hooks:
    """Passes everything on to each hook."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = list(hooks)

    def start(self, run: RunInfo) -> None:
        self._tell(lambda hook: hook.start(run))

    def step(self, record: StepRecord) -> None:
        self._tell(lambda hook: hook.step(record))

    def stop(self) -> None:
        self._tell(lambda hook: hook.stop())

    def _tell(self, news: Callable[[Hook], None]) -> None:
        for hook in tuple(self._hooks):
            try:
                news(hook)
            except Exception as error:  # a full disk or a lost connection of a logger is no reason to lose a run
                self._hooks.remove(hook)
                warnings.warn(f"{type(hook).__name__} is dropped, the run goes on: {error!r}", stacklevel=2)


def open_hooks(config: LogConfig, folder: Path) -> Hooks:
    """metrics.jsonl always, and the loggers that the recipe names; one that is not installed is the user's to mend."""
    return Hooks([MetricsFile(folder / "metrics.jsonl"), *(LOGGERS[name](config.every) for name in config.to)])

"""The recipe key `log`. Imports no torch."""

from typing import Literal

from pydantic import Field

from tercet.configs.base import Config

Logger = Literal["console", "tensorboard", "wandb"]


class LogConfig(Config):
    """The loggers of a run. tercet always writes metrics.jsonl, too."""

    every: int = Field(10, gt=0, description="steps between two lines; lines in a log file are also at least 5 s apart")
    to: tuple[Logger, ...] = Field(("console",), description="loggers: console, tensorboard, wandb")
    analysis: bool = Field(
        True,
        description="every `every` steps, also measure the embedding space, such as alignment and uniformity",
    )

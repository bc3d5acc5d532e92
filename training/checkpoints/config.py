"""The recipe key `checkpoint`. Imports no torch."""

from typing import ClassVar

from pydantic import Field, model_validator

from tercet.configs.base import Config, Misfit
from tercet.eval.config import EvalConfig
from tercet.eval.statistics.scale import scale_of


class BestConfig(Config):
    """Which evaluation of a run is the best. Its checkpoint is kept beside the newest ones, and named `RUN@best`."""

    key: ClassVar[str] = "checkpoint.best"

    task: str = Field("retrieval", description="one of `eval.tasks`")
    metric: str = Field("R@1", description="a metric that is better if it is higher; averaged over subjects and splits")

    @model_validator(mode="after")
    def _higher_is_better(self) -> "BestConfig":
        if scale_of(self.metric).better != "higher":
            raise Misfit("metric", f"`{self.metric}` is not better if it is higher; give one that is, as R@1")
        return self

    def check(self, evaluation: EvalConfig) -> None:
        """Refuses a run without evaluations, or without this task."""
        if not evaluation.every:
            raise Misfit(self.key, "needs evaluations during the run: set `eval.every`")
        if self.task not in evaluation.tasks:
            known = ", ".join(evaluation.tasks)
            raise Misfit(f"{self.key}.task", f"is `{self.task}`, which is not one of `eval.tasks`: {known}")


class CheckpointConfig(Config):
    """When tercet saves checkpoints, and how many it keeps."""

    every: int | None = Field(
        None, gt=0, description="steps between checkpoints; default: one at the end of each stage"
    )
    keep: int = Field(2, gt=0, description="how many of the newest checkpoints to keep")
    best: BestConfig | None = Field(
        None,
        description="also keep the checkpoint of the best evaluation, which is named RUN@best: {task: retrieval, "
        "metric: R@1}; early_stopping always does",
    )

"""The recipe key `early_stopping`. Imports no torch."""

from pydantic import Field, model_validator

from tercet.configs.base import Config, Misfit
from tercet.data_pipelines.config import DataConfig
from tercet.eval.config import EvalConfig
from tercet.eval.scale import scale_of


class EarlyStoppingConfig(Config):
    """Ends a run when its evaluations no longer improve. The run then has the weights of its best evaluation."""

    task: str = Field("retrieval", description="one of `eval.tasks`")
    metric: str = Field("R@1", description="a metric that is better if it is higher; averaged over subjects and splits")
    patience: int = Field(
        3, gt=0, description="the number of evaluations in a row without improvement that ends the run"
    )

    @model_validator(mode="after")
    def _higher_is_better(self) -> "EarlyStoppingConfig":
        if scale_of(self.metric).better != "higher":
            raise Misfit("metric", f"`{self.metric}` is not better if it is higher; give one that is, as R@1")
        return self

    def check(self, evaluation: EvalConfig, data: DataConfig) -> None:
        """Refuses a run without evaluations, or without this task."""
        if not (evaluation.every and data.val):
            raise Misfit("early_stopping", "needs evaluations during the run: set `eval.every` and `data.val`")
        if self.task not in evaluation.tasks:
            known = ", ".join(evaluation.tasks)
            raise Misfit("early_stopping.task", f"is `{self.task}`, which is not one of `eval.tasks`: {known}")

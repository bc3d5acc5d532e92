"""The recipe key `early_stopping`. Imports no torch."""

from typing import ClassVar

from pydantic import Field

from tercet.training.checkpoints.config import BestConfig


class EarlyStoppingConfig(BestConfig):
    """Ends a run when its evaluations no longer improve. The run then has the weights of its best evaluation."""

    key: ClassVar[str] = "early_stopping"

    patience: int = Field(
        3, gt=0, description="the number of evaluations in a row without improvement that ends the run"
    )

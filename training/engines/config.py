"""The recipe keys `optimizer` and `schedule`. Imports no torch."""

from typing import Literal

from pydantic import Field

from tercet.configs.base import Config


class OptimizerConfig(Config):
    """The optimizer, by its registered name. Parameters below two dimensions have no weight decay."""

    name: str = "adamw"
    lr: float = Field(5e-4, gt=0, description="peak learning rate")
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0)
    weight_decay: float = Field(0.2, ge=0)
    scale_lr: float = Field(1.0, gt=0, description="learning rate of temperatures and biases relative to `lr`")


class ScheduleConfig(Config):
    """The learning rate over the steps of a stage."""

    name: Literal["cosine", "constant"] = "cosine"
    warmup: int | float = Field(0, ge=0, description="steps of linear warm-up; below 1, a share of all steps")
    cooldown: int = Field(0, ge=0, description="constant only: the last steps, with a linear decrease to `floor`")
    floor: float = Field(0.0, ge=0, lt=1, description="the final learning rate, as a share of the peak")

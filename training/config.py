"""The whole run's config tree: one recipe is one `RunConfig`. Imports no torch."""

from typing import Any, Literal

from pydantic import Field, model_validator

from tercet.configs.base import Config
from tercet.data_pipelines.config import DataConfig
from tercet.eval.config import EvalConfig
from tercet.models.config import ModelConfig, ObjectiveConfig, Precision, TermConfig


class OptimizerConfig(Config):
    """A registered optimizer. Parameters below two dimensions never decay."""

    name: str = "adamw"
    lr: float = Field(5e-4, gt=0, description="peak learning rate")
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0)
    weight_decay: float = Field(0.2, ge=0)
    scale_lr: float = Field(1.0, gt=0, description="learning rate of temperatures and biases relative to `lr`")


class ScheduleConfig(Config):
    """The learning rate over the steps of a stage."""

    name: Literal["cosine", "constant"] = "cosine"
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    cooldown: int = Field(0, ge=0, description="constant only: last steps that fall linearly to `floor`")
    floor: float = Field(0.0, ge=0, lt=1, description="the lowest share of the peak")


class CheckpointConfig(Config):
    """When a run is saved and how many checkpoints stay."""

    every: int | None = Field(None, gt=0, description="steps between checkpoints; nothing: at the end of the run only")
    keep: int = Field(2, gt=0, description="how many of the newest stay")


class LogConfig(Config):
    """Who is told of the run's progress; metrics.jsonl always is."""

    every: int = Field(10, gt=0, description="steps between two lines")
    to: tuple[str, ...] = Field(("console",), description="loggers by name: console, tensorboard, wandb")


class StageConfig(Config):
    """One stretch of a run: its steps, and dotted keys of the recipe that differ while it lasts."""

    name: str
    steps: int = Field(gt=0)
    set: dict[str, Any] = {}


class RunConfig(Config):
    """One complete run."""

    name: str = Field(description="the run's name; its folder is runs/NAME unless `out` says otherwise")
    out: str | None = Field(None, description="the run's folder")
    seed: int = 0
    data: DataConfig
    model: ModelConfig
    pairs: dict[str, float] = Field({}, description="shorthand for terms: {image-text: 1.0, audio-text: 1.0}")
    objective: ObjectiveConfig = Field(ObjectiveConfig(), description="what the pairs are trained by")
    terms: tuple[TermConfig, ...] = Field((), description="what is trained, written out; `pairs` fills it")
    batch_size: int = Field(256, gt=1, description="items per step over all ranks")
    micro_batch: int | None = Field(None, gt=0, description="rows that a rank holds in memory at once; turns on gradient caching")
    steps: int = Field(1000, gt=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    precision: Precision = "bf16"
    zero: Literal[0, 1, 2, 3] = Field(1, description="what DeepSpeed shards over ranks: nothing, optimizer, gradients, parameters")
    clip: float = Field(1.0, ge=0, description="largest norm of the whole gradient; 0 leaves it as it is")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights, which evaluation then uses")
    tile: int = Field(512, gt=0, description="columns of the logit matrix that exist at a time")
    checkpoint: CheckpointConfig = CheckpointConfig()
    eval: EvalConfig = EvalConfig()
    log: LogConfig = LogConfig()
    stages: tuple[StageConfig, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, raw: Any) -> Any:
        """A bare objective name becomes a mapping."""
        if isinstance(raw, dict) and isinstance(raw.get("objective"), str):
            raw = {**raw, "objective": {"name": raw["objective"]}}
        return raw
